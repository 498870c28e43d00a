//! Logs, exec, attach and port-forward: passed through to the kubelet of the pod's node.

use futures::StreamExt;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kilter_model::NamespacedName;
use serde_json::Value;

use crate::api::Api;
use crate::kubelet::{self, Address};
use crate::request::{Query, Target};
use crate::resources::Resource;
use crate::respond::{self, Answer};
use crate::status::Status;

/// GET of a container's log.
pub async fn log(api: &Api, target: &Target, query: &Query) -> Result<Answer, Status> {
    const PASSED_ON: [&str; 9] = [
        "follow",
        "previous",
        "sinceSeconds",
        "sinceTime",
        "timestamps",
        "tailLines",
        "limitBytes",
        "insecureSkipTLSVerifyBackend",
        "stream",
    ];
    let place = Place::find(api, target, query)?;
    let mut options = String::new();
    for key in PASSED_ON {
        for value in query.all(key) {
            push_option(&mut options, key, value);
        }
    }
    let path = format!("/containerLogs/{}?{options}", place.path);
    let answer = api.kubelet.send(place.kubelet, &path, Method::GET, &[]).await?;
    if !answer.status().is_success() {
        return Err(kubelet::refusal(answer).await);
    }
    let stop = api.stop.clone();
    let pieces = answer.into_body().into_data_stream().map(|piece| piece.map_err(std::io::Error::other));
    let pieces = pieces.map(|piece| piece.map(hyper::body::Frame::data)).take_until(stop.cancelled_owned());
    let mut answer = Response::new(BodyExt::boxed_unsync(http_body_util::StreamBody::new(pieces)));
    answer.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(answer)
}

/// The streams of a program in a container: of one that is started (`exec`), or of the container's
/// own (`attach`).
pub async fn streams(
    api: &Api,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    /// What `kubectl` calls the streams, and what the kubelet does.
    const STREAMS: [(&str, &str); 4] =
        [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
    let place = Place::find(api, target, query)?;
    let mut options = String::new();
    for command in query.all("command") {
        push_option(&mut options, "command", command);
    }
    for (ours, theirs) in STREAMS {
        if query.flag(ours) {
            push_option(&mut options, theirs, "1");
        }
    }
    let kind = target.subresource.as_deref().unwrap_or_default();
    let path = format!("/{kind}/{}?{options}", place.path);
    upgrade(api, place.kubelet, &path, request).await
}

/// Connections to ports of a pod.
pub async fn port_forward(
    api: &Api,
    target: &Target,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Answer, Status> {
    let object = api.registry.get(target)?;
    let pod = object.value();
    if pod["status"]["phase"] != "Running" {
        let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown");
        return Err(Status::bad_request(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let kubelet = kubelet_of(api, &object.key.name, &pod)?;
    let mut options = String::new();
    for ports in query.all("ports") {
        push_option(&mut options, "ports", ports);
    }
    let path = [&*object.key.namespace, &*object.key.name].map(encode).join("/");
    upgrade(api, kubelet, &format!("/portForward/{path}?{options}"), request).await
}

/// An upgraded connection, passed through byte for byte: what is spoken on it is the client's and
/// the kubelet's affair.
async fn upgrade(
    api: &Api,
    kubelet: Address,
    path: &str,
    mut request: Request<Incoming>,
) -> Result<Answer, Status> {
    if !request.headers().contains_key(UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let headers = upgrade_headers(request.headers());
    let client = hyper::upgrade::on(&mut request);
    let mut upstream = api.kubelet.send(kubelet, path, request.method().clone(), &headers).await?;
    if upstream.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(kubelet::refusal(upstream).await);
    }
    let mut answer = Response::new(respond::full(""));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in upgrade_headers(upstream.headers()) {
        answer.headers_mut().append(name, value);
    }
    let kubelet = hyper::upgrade::on(&mut upstream);
    let stop = api.stop.clone();
    tokio::spawn(async move {
        let (client, kubelet) = match tokio::try_join!(client, kubelet) {
            Ok((client, kubelet)) => (client, kubelet),
            Err(error) => {
                tracing::debug!(%error, "a connection could not be upgraded");
                return;
            }
        };
        let (mut client, mut kubelet) = (TokioIo::new(client), TokioIo::new(kubelet));
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut kubelet) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(answer)
}

/// The headers that make an upgrade, in either direction.
fn upgrade_headers(headers: &http::HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let wanted = |name: &HeaderName| {
        *name == UPGRADE
            || *name == CONNECTION
            || name.as_str().starts_with("sec-websocket-")
            || name.as_str().starts_with("x-stream-protocol-version")
    };
    headers.iter().filter(|(name, _)| wanted(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn push_option(options: &mut String, key: &str, value: &str) {
    if !options.is_empty() {
        options.push('&');
    }
    options.push_str(key);
    options.push('=');
    options.push_str(&encode(value));
}

/// Percent encoding of everything that is not plainly harmless.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A container and the kubelet that runs it.
struct Place {
    kubelet: Address,
    /// `NAMESPACE/POD/CONTAINER`.
    path: String,
}

impl Place {
    fn find(api: &Api, target: &Target, query: &Query) -> Result<Self, Status> {
        let object = api.registry.get(target)?;
        let (pod, name) = (object.value(), &*object.key.name);
        let container = container(&pod, name, query.get("container"))?;
        let kubelet = kubelet_of(api, name, &pod)?;
        let path = [&*object.key.namespace, name, &container].map(encode).join("/");
        Ok(Self { kubelet, path })
    }
}

/// The kubelet of the node that a pod is on.
fn kubelet_of(api: &Api, name: &str, pod: &Value) -> Result<Address, Status> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let nodes = Resource::core("nodes");
    let object = api.registry.store.get(nodes, &NamespacedName::new("", node));
    let object = object.ok_or_else(|| Status::not_found(nodes, node))?;
    Address::of(&object.value()).ok_or_else(|| {
        Status::unavailable(format!(
            "node {node} has not said where its kubelet is (InternalIP and kubelet port)"
        ))
    })
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Value, name: &str, asked: Option<&str>) -> Result<String, Status> {
    let of = |list: &str| -> Vec<String> {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (main, init, ephemeral) = (of("containers"), of("initContainers"), of("ephemeralContainers"));
    match asked {
        Some(asked) if main.iter().chain(&init).chain(&ephemeral).any(|c| c == asked) => Ok(asked.to_owned()),
        Some(asked) => Err(Status::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None if main.len() == 1 && init.is_empty() => Ok(main[0].clone()),
        None => {
            let more = if init.is_empty() {
                String::new()
            } else {
                format!(" or one of the init containers: [{}]", init.join(" "))
            };
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]{more}",
                main.join(" ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_only_container_needs_no_name() {
        let pod = |names: &[&str]| json!({"spec": {"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}});
        assert_eq!(container(&pod(&["a"]), "x", None).as_deref(), Ok("a"));
        assert_eq!(container(&pod(&["a", "b"]), "x", Some("b")).as_deref(), Ok("b"));
        let ambiguous = container(&pod(&["a", "b"]), "x", None).expect_err("which?");
        assert_eq!(ambiguous.message, "a container name must be specified for pod x, choose one of: [a b]");
        assert_eq!(container(&pod(&["a"]), "x", Some("c")).expect_err("unknown").code, 400);
    }

    #[test]
    fn what_goes_into_a_url_is_encoded() {
        let mut options = String::new();
        push_option(&mut options, "command", "sh");
        push_option(&mut options, "command", "echo $A&b/é");
        assert_eq!(options, "command=sh&command=echo%20%24A%26b%2F%C3%A9");
    }
}
