//! The environment of a container, for programs that are run in its place.

mod resource;
mod sources;

pub use sources::{Source, Sources};

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod};

use resource::resource;

use crate::services::Service;

/// Where OpenSSL and rustls' native roots look first; curl, wget and Python ask one of them.
const TRUSTED: &str = "SSL_CERT_FILE";
/// Where this machine's programs are, in case the container says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of a container: its Services', those of whole ConfigMaps and Secrets, then its
/// own, which may refer to them. Also what of them is missing though it is not optional. `trusted` is the
/// file of certificates that its programs trust.
pub fn environment(
    pod: &Pod,
    container: &Container,
    hostname: &str,
    services: &[Arc<Service>],
    sources: &Sources,
    trusted: Option<&Path>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
        ("HOME".to_owned(), "/root".to_owned()),
    ]);
    all.extend(trusted.map(|file| (TRUSTED.to_owned(), file.display().to_string())));
    let mut missing = Vec::new();
    for service in services {
        service_variables(service, &mut all);
    }
    for from in container.env_from.iter().flatten() {
        if let Err(why) = whole(from, sources, &mut all) {
            missing.push(why);
        }
    }
    for variable in container.env.iter().flatten() {
        match value(variable, pod, container, sources, &all) {
            Ok(Some(value)) => drop(all.insert(variable.name.clone(), value)),
            Ok(None) => {}
            Err(why) => missing.push(why),
        }
    }
    (all, missing)
}

/// All keys of a ConfigMap or Secret (core/v1 `EnvFromSource`).
fn whole(from: &EnvFromSource, sources: &Sources, into: &mut BTreeMap<String, String>) -> Result<(), String> {
    let (source, optional) = match (&from.config_map_ref, &from.secret_ref) {
        (Some(map), _) => (Source::ConfigMap(map.name.clone()), map.optional),
        (None, Some(secret)) => (Source::Secret(secret.name.clone()), secret.optional),
        (None, None) => return Ok(()),
    };
    let prefix = from.prefix.as_deref().unwrap_or_default();
    match sources.values(&source) {
        Ok(values) => {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            into.extend(values.iter().map(|(key, value)| (format!("{prefix}{key}"), text(value))));
            Ok(())
        }
        Err(_) if optional == Some(true) => Ok(()),
        Err(why) => Err(why),
    }
}

/// `None` for what there is nothing to say about.
fn value(
    variable: &EnvVar,
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    so_far: &BTreeMap<String, String>,
) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), so_far)));
    };
    if let Some(selector) = &from.field_ref {
        return Ok(field(pod, &selector.field_path));
    }
    if let Some(selector) = &from.resource_field_ref {
        return Ok(resource(selector, container));
    }
    let (source, key, optional) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(map), _) => (Source::ConfigMap(map.name.clone()), &map.key, map.optional),
        (None, Some(secret)) => (Source::Secret(secret.name.clone()), &secret.key, secret.optional),
        (None, None) => return Ok(None),
    };
    match sources.value(&source, key) {
        Ok(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        Err(_) if optional == Some(true) => Ok(None),
        Err(why) => Err(why),
    }
}

/// The fields of the downward API (core/v1 `EnvVarSource.fieldRef`).
pub fn field(pod: &Pod, path: &str) -> Option<String> {
    let (meta, status) = (&pod.metadata, pod.status.as_ref());
    let keyed = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
    if let Some(key) = keyed("metadata.labels") {
        return Some(meta.labels.as_ref()?.get(key)?.clone());
    }
    if let Some(key) = keyed("metadata.annotations") {
        return Some(meta.annotations.as_ref()?.get(key)?.clone());
    }
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => pod.spec.as_ref()?.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.as_ref()?.service_account_name.clone(),
        "status.hostIP" => status?.host_ip.clone(),
        "status.podIP" => status?.pod_ip.clone(),
        "status.podIPs" => {
            let ips = status?.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
            Some(ips.collect::<Vec<_>>().join(","))
        }
        _ => None,
    }
}

/// Replaces `$(NAME)` by the variable of that name; one that is unknown stays as it is, and `$$`
/// is a dollar sign (core/v1 `EnvVar.value`).
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match name.and_then(|(name, after)| Some((variables.get(name)?, after))) {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out + rest
}

/// `REDIS_SERVICE_HOST` and the Docker-link variables (Kubernetes, "Discovering services").
fn service_variables(service: &Service, into: &mut BTreeMap<String, String>) {
    let Some(address) = service.cluster_ip.as_deref() else { return };
    let prefix = upper(&service.name);
    let mut set = |key: String, value: String| into.insert(format!("{prefix}{key}"), value);
    for (at, port) in service.ports.iter().enumerate() {
        let (number, protocol) = (port.number, port.protocol.to_string());
        let url = format!("{}://{address}:{number}", protocol.to_lowercase());
        if at == 0 {
            set("_SERVICE_HOST".into(), address.into());
            set("_SERVICE_PORT".into(), number.to_string());
            set("_PORT".into(), url.clone());
        }
        if !port.name.is_empty() {
            set(format!("_SERVICE_PORT_{}", upper(&port.name)), number.to_string());
        }
        let link = format!("_PORT_{number}_{protocol}");
        set(link.clone(), url);
        set(format!("{link}_PROTO"), protocol.to_lowercase());
        set(format!("{link}_PORT"), number.to_string());
        set(format!("{link}_ADDR"), address.into());
    }
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_containers_variables_see_services_fields_and_each_other() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"nodeName": "node-1", "containers": []}, "status": {"podIP": "10.244.1.2"},
        }))
        .unwrap();
        let container: Container = serde_json::from_value(json!({"name": "c", "env": [
            {"name": "DB", "value": "tcp://$(MY_DB_SERVICE_HOST):$(MY_DB_SERVICE_PORT)/$$x/$(NONE)/$"},
            {"name": "AGAIN", "value": "<$(DB)>"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "GONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none"}}},
            {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": true}}},
        ], "envFrom": [{"prefix": "S_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "m"}}]}))
        .unwrap();
        let service = json!({"metadata": {"name": "my-db"}, "spec": {"clusterIP": "10.96.0.7",
            "ports": [{"port": 5432, "name": "sql-in"}, {"port": 53, "protocol": "UDP"}]}});
        let headless =
            json!({"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}});
        let read = |it| serde_json::from_value::<k8s_openapi::api::core::v1::Service>(it).unwrap();
        let services = [service, headless].map(|it| Arc::new(read(it).into()));
        let sources = Sources::with(Source::Secret("s".into()), &[("k", "hidden")]);
        let (all, missing) = environment(&pod, &container, "web-0", &services, &sources, Some(Path::new("/ca.crt")));
        assert_eq!(all.get("SSL_CERT_FILE").map(String::as_str), Some("/ca.crt"));
        assert_eq!(missing, ["configmap \"m\" not found", "couldn't find key none in secret \"s\""]);
        let get = |key: &str| all.get(key).map(String::as_str);
        assert_eq!(get("DB"), Some("tcp://10.96.0.7:5432/$x/$(NONE)/$"));
        assert_eq!(get("AGAIN"), Some("<tcp://10.96.0.7:5432/$x/$(NONE)/$>"));
        assert_eq!((get("IP"), get("APP"), get("SECRET")), (Some("10.244.1.2"), Some("web"), Some("hidden")));
        assert_eq!((get("S_k"), get("MAYBE")), (Some("hidden"), None));
        assert_eq!(get("MY_DB_SERVICE_PORT_SQL_IN"), Some("5432"));
        assert_eq!(get("MY_DB_PORT_53_UDP"), Some("udp://10.96.0.7:53"));
        assert_eq!(get("MY_DB_PORT_5432_TCP_ADDR"), Some("10.96.0.7"));
        assert!(all.keys().all(|key| !key.starts_with("H_")));
    }
}
