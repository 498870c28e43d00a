use super::{Fields, children, made, set, text};

/// The defaults of a Service; its addresses and their families are the allocator's affair.
pub(super) fn service(fields: &mut Fields) {
    let Some(spec) = made(fields, "spec") else { return };
    set(spec, "type", "ClusterIP");
    set(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "ClientIP"
        && let Some(client) = made(spec, "sessionAffinityConfig").and_then(|c| made(c, "clientIP"))
    {
        set(client, "timeoutSeconds", 10800);
    }
    for port in children(spec, "ports") {
        set(port, "protocol", "TCP");
        // Go writes an absent target port as 0.
        if port.get("targetPort").is_some_and(|t| t == 0 || t == "") {
            port.remove("targetPort");
        }
        if let Some(number) = port.get("port").cloned() {
            set(port, "targetPort", number);
        }
    }
    let kind = text(spec, "type").to_owned();
    if kind == "ExternalName" {
        return;
    }
    set(spec, "internalTrafficPolicy", "Cluster");
    let has_external_ips = spec.get("externalIPs").and_then(|ips| ips.as_array()).is_some_and(|ips| !ips.is_empty());
    if kind == "NodePort" || kind == "LoadBalancer" || has_external_ips {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}
