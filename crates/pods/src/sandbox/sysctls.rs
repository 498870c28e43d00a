use k8s_openapi::api::core::v1::PodSpec;

/// What any pod may set (Kubernetes, "Using sysctls in a Kubernetes Cluster": the safe set). All
/// are of the network namespace but the first.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The sysctls of a pod, name and value; an error in the kubelet's words for the first that a
/// pod must not set.
pub fn sysctls(spec: &PodSpec) -> Result<Vec<(String, String)>, String> {
    let declared = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    declared
        .map(|sysctl| {
            // Either separator is allowed; the kernel's files have one of their own.
            let name = sysctl.name.replace('/', ".");
            if !SAFE.contains(&name.as_str()) {
                return Err(format!("forbidden sysctl: {name:?} not allowlisted"));
            }
            let shared = match name.starts_with("net.") {
                true => spec.host_network == Some(true),
                false => spec.host_ipc == Some(true),
            };
            if shared {
                let what = if name.starts_with("net.") { "net" } else { "ipc" };
                return Err(format!("forbidden sysctl: {name:?} not allowed with host {what} enabled"));
            }
            Ok((name, sysctl.value.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_safe_sysctls_of_the_pods_own_namespaces_are_set() {
        let table = [
            (json!([]), false, Ok(0)),
            (json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]), false, Ok(1)),
            (json!([{"name": "net/ipv4/tcp_syncookies", "value": "1"}]), false, Ok(1)),
            (
                json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]),
                true,
                Err("forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"),
            ),
            (
                json!([{"name": "kernel.msgmax", "value": "1"}]),
                false,
                Err("forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
            ),
        ];
        for (declared, host_network, expected) in table {
            let spec = json!({"containers": [], "hostNetwork": host_network, "securityContext": {"sysctls": declared}});
            let found = sysctls(&serde_json::from_value(spec).unwrap());
            assert_eq!(found.as_ref().map(Vec::len).map_err(String::as_str), expected, "{declared}");
        }
    }
}
