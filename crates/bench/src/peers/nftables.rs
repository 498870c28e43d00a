use std::fmt::Write;

use super::{MASQUERADE_MARK, POD_CIDR, Service};

/// One table: a map from frontend to the Service's chain, a chain a Service that picks an endpoint
/// at random, and a chain an endpoint that translates (kube-proxy's nftables mode, KEP-3866). The
/// base chains that such a cluster has besides are there too, since every new connection runs them.
pub(super) fn rules(services: &[Service]) -> String {
    let mut text = format!("table ip kube-proxy {{\n{}", base(services));
    for (number, service) in services.iter().enumerate() {
        for protocol in service.protocols {
            service_chain(&mut text, number, protocol, service);
        }
    }
    text.push_str("}\n");
    text
}

/// One transaction that empties a Service's chains and fills them anew.
pub(super) fn change(number: usize, service: &Service) -> String {
    let mut text = String::new();
    let table = "table ip kube-proxy";
    for protocol in service.protocols {
        let chain = format!("chain ip kube-proxy service-{number}-{protocol}");
        let _ = write!(text, "add {chain}\nflush {chain}\n");
        for slot in 0..service.backends.len() {
            let endpoint = format!("chain ip kube-proxy endpoint-{number}-{protocol}-{slot}");
            let _ = write!(text, "add {endpoint}\nflush {endpoint}\n");
        }
        let _ = writeln!(text, "{table} {{");
        service_chain(&mut text, number, protocol, service);
        text.push_str("}\n");
    }
    text
}

fn base(services: &[Service]) -> String {
    let mut elements = String::new();
    let mut addresses = String::new();
    for (number, service) in services.iter().enumerate() {
        let (ip, port) = (service.frontend.ip(), service.frontend.port());
        let _ = write!(addresses, "{ip}, ");
        for protocol in service.protocols {
            let _ =
                writeln!(elements, "\t\t\t{ip} . {protocol} . {port} : goto service-{number}-{protocol},");
        }
    }
    format!(
        r#"
	set cluster-ips {{
		type ipv4_addr
		elements = {{ {addresses} }}
	}}
	set nodeport-ips {{
		type ipv4_addr
		elements = {{ 10.250.0.11 }}
	}}
	map no-endpoint-services {{
		type ipv4_addr . inet_proto . inet_service : verdict
	}}
	map no-endpoint-nodeports {{
		type inet_proto . inet_service : verdict
	}}
	map firewall-ips {{
		type ipv4_addr . inet_proto . inet_service : verdict
	}}
	map service-nodeports {{
		type inet_proto . inet_service : verdict
	}}
	map service-ips {{
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = {{
{elements}		}}
	}}
	chain filter-prerouting {{
		type filter hook prerouting priority -110; policy accept;
		ct state new jump firewall-check
	}}
	chain filter-input {{
		type filter hook input priority -110; policy accept;
		ct state new jump nodeport-endpoints-check
		ct state new jump service-endpoints-check
	}}
	chain filter-forward {{
		type filter hook forward priority -110; policy accept;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain filter-output {{
		type filter hook output priority -110; policy accept;
		ct state new jump service-endpoints-check
		ct state new jump firewall-check
	}}
	chain filter-output-post-dnat {{
		type filter hook output priority -90; policy accept;
		ct state new jump cluster-ips-check
	}}
	chain nat-prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}}
	chain nat-output {{
		type nat hook output priority -100; policy accept;
		jump services
	}}
	chain nat-postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		jump masquerading
	}}
	chain firewall-check {{
		ip daddr . meta l4proto . th dport vmap @firewall-ips
	}}
	chain nodeport-endpoints-check {{
		ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
	}}
	chain service-endpoints-check {{
		ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}}
	chain cluster-ips-check {{
		ip daddr @cluster-ips reject comment "a port that the Service does not have"
	}}
	chain services {{
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}}
	chain mark-for-masquerade {{
		meta mark set meta mark or {MASQUERADE_MARK}
	}}
	chain masquerading {{
		meta mark and {MASQUERADE_MARK} == 0 return
		meta mark set meta mark xor {MASQUERADE_MARK}
		masquerade fully-random
	}}
"#
    )
}

fn service_chain(text: &mut String, number: usize, protocol: &str, service: &Service) {
    let (ip, port) = (service.frontend.ip(), service.frontend.port());
    let mut choices = String::new();
    for (slot, backend) in service.backends.iter().enumerate() {
        let (address, chain) = (backend.ip(), format!("endpoint-{number}-{protocol}-{slot}"));
        let _ = write!(
            text,
            "\tchain {chain} {{\n\
             \t\tip saddr {address} jump mark-for-masquerade\n\
             \t\tmeta l4proto {protocol} dnat to {backend}\n\
             \t}}\n"
        );
        let _ = write!(choices, "{slot} : goto {chain}, ");
    }
    let count = service.backends.len();
    let _ = write!(
        text,
        "\tchain service-{number}-{protocol} {{\n\
         \t\tip daddr {ip} {protocol} dport {port} ip saddr != {POD_CIDR} jump mark-for-masquerade\n\
         \t\tnumgen random mod {count} vmap {{ {choices}}}\n\
         \t}}\n"
    );
}
