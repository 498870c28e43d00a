use std::fmt::Write;

use super::{MASQUERADE_MARK, POD_CIDR, Service};

/// `KUBE-SERVICES` is searched from the top for the frontend; a chain a Service picks an endpoint
/// with `statistic`, and a chain an endpoint translates (kube-proxy's iptables mode).
pub(super) fn rules(services: &[Service]) -> String {
    let mut chains = String::new();
    let mut dispatch = String::new();
    let mut bodies = String::new();
    for (number, service) in services.iter().enumerate() {
        for protocol in service.protocols {
            let frontend = frontend(number, protocol, service);
            let _ = writeln!(dispatch, "-A KUBE-SERVICES {frontend} -j {}", chain(number, protocol));
            service_chain(&mut chains, &mut bodies, number, protocol, service);
        }
    }
    format!(
        "*filter\n\
         :KUBE-FORWARD - [0:0]\n\
         -A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j ACCEPT\n\
         -A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n\
         *nat\n\
         :KUBE-SERVICES - [0:0]\n\
         :KUBE-POSTROUTING - [0:0]\n\
         :KUBE-MARK-MASQ - [0:0]\n\
         {chains}\
         -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
         -A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark {MASQUERADE_MARK}\n\
         -A KUBE-POSTROUTING -m mark ! --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark {MASQUERADE_MARK}\n\
         -A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n\
         {dispatch}{bodies}\
         COMMIT\n"
    )
}

/// One transaction that fills a Service's chains anew; naming a chain empties it.
pub(super) fn change(number: usize, service: &Service) -> String {
    let mut chains = String::new();
    let mut bodies = String::new();
    for protocol in service.protocols {
        service_chain(&mut chains, &mut bodies, number, protocol, service);
    }
    format!("*nat\n{chains}{bodies}COMMIT\n")
}

fn chain(number: usize, protocol: &str) -> String {
    format!("KUBE-SVC-{}{number:015}", protocol.as_bytes()[0] as char)
}

fn frontend(number: usize, protocol: &str, service: &Service) -> String {
    let (ip, port) = (service.frontend.ip(), service.frontend.port());
    format!(
        "-d {ip}/32 -p {protocol} -m comment --comment \"bench/service-{number}:port cluster IP\" -m {protocol} --dport {port}"
    )
}

fn service_chain(chains: &mut String, bodies: &mut String, number: usize, protocol: &str, service: &Service) {
    let (chain, frontend) = (chain(number, protocol), frontend(number, protocol, service));
    let _ = writeln!(chains, ":{chain} - [0:0]");
    let _ = writeln!(bodies, "-A {chain} ! -s {POD_CIDR} {frontend} -j KUBE-MARK-MASQ");
    endpoints(chains, bodies, &chain, number, protocol, service);
}

fn endpoints(
    chains: &mut String,
    bodies: &mut String,
    chain: &str,
    number: usize,
    protocol: &str,
    service: &Service,
) {
    let comment = format!("-m comment --comment \"bench/service-{number}:port");
    let count = service.backends.len();
    for (slot, backend) in service.backends.iter().enumerate() {
        let endpoint = format!("KUBE-SEP-{}{number:012}{slot:03}", protocol.as_bytes()[0] as char);
        let _ = writeln!(chains, ":{endpoint} - [0:0]");
        // Each rule sees what the ones before it left over; the last takes the rest.
        let left = count - slot;
        let share = match left {
            1 => String::new(),
            _ => format!(" -m statistic --mode random --probability {:.11}", 1.0 / left as f64),
        };
        let _ = writeln!(bodies, "-A {chain} {comment} -> {backend}\"{share} -j {endpoint}");
        let _ = writeln!(bodies, "-A {endpoint} -s {}/32 {comment}\" -j KUBE-MARK-MASQ", backend.ip());
        let _ = writeln!(
            bodies,
            "-A {endpoint} -p {protocol} {comment}\" -m {protocol} -j DNAT --to-destination {backend}"
        );
    }
}
