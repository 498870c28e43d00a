use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fetch::{Fetch, FetchError, Fetcher};
use super::spec::{Handler, HttpGet, ProbeSpec};
use super::{dial, grpc};
use crate::program::{Interior, RunError};
use crate::standin::{Failures, PROBE_HEADER};
use crate::version::PROBE_USER_AGENT;

/// How often an attempt that could not be made is made again (kubernetes `pkg/kubelet/prober`).
const TRIES: usize = 3;

/// What one attempt found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The container is well.
    Success,
    /// It is well, but somebody should look.
    Warning(String),
    /// It is not; why, in the kubelet's words.
    Failure(String),
    /// The probe could not be made; says nothing about the container.
    Error(String),
}

/// What is probed.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The pod's address.
    pub address: IpAddr,
    /// What a stand-in was told to fail.
    pub failures: Failures,
    /// The inside of a container that runs for real; a stand-in has none.
    pub interior: Option<Arc<Interior>>,
}

/// Sends probes from this process's network namespace.
#[derive(Debug, Clone)]
pub struct Prober {
    fetcher: Fetcher,
}

impl Prober {
    /// A prober; it needs nothing but a TLS configuration.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { fetcher: Fetcher::new()? })
    }

    /// What makes GETs as probes do.
    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// One attempt; one that cannot be made is tried again twice.
    pub async fn probe(&self, spec: &ProbeSpec, subject: &Subject) -> Outcome {
        let mut outcome = self.attempt(spec, subject).await;
        for _ in 1..TRIES {
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
            outcome = self.attempt(spec, subject).await;
        }
        outcome
    }

    async fn attempt(&self, spec: &ProbeSpec, subject: &Subject) -> Outcome {
        let pod = subject.address;
        match &spec.handler {
            Handler::Exec(command) => exec(command, spec, subject).await,
            Handler::Tcp { port: Err(bad), .. } | Handler::Grpc { port: Err(bad), .. } => {
                Outcome::Error(bad.clone())
            }
            Handler::Tcp { host, port: Ok(port) } => tcp(host.as_deref(), pod, *port, spec.timeout).await,
            Handler::Grpc { port: Ok(port), service } => grpc_check(pod, *port, service, spec).await,
            Handler::Http(get) => self.http(get, spec, subject).await,
        }
    }

    async fn http(&self, get: &HttpGet, spec: &ProbeSpec, subject: &Subject) -> Outcome {
        let url = match get.url(subject.address) {
            Ok(url) => url,
            Err(bad) => return Outcome::Error(bad),
        };
        let mut headers = get.headers.clone();
        if subject.interior.is_none() {
            headers.push((PROBE_HEADER.to_owned(), spec.kind.word().to_owned()));
        }
        let fetch = Fetch { url, headers, agent: PROBE_USER_AGENT };
        match self.fetcher.fetch(&fetch, Instant::now() + spec.timeout).await {
            Ok(answer) if (200..300).contains(&answer.status) => Outcome::Success,
            Ok(answer) if (300..400).contains(&answer.status) => {
                Outcome::Warning(format!("Probe terminated redirects, Response body: {}", answer.body))
            }
            Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
            Err(error @ FetchError::Failed(..)) => Outcome::Failure(error.to_string()),
            Err(error @ FetchError::Body(_)) => Outcome::Error(error.to_string()),
        }
    }
}

/// A stand-in has no such program: it succeeds unless told to fail.
async fn exec(command: &[String], spec: &ProbeSpec, subject: &Subject) -> Outcome {
    let Some(interior) = &subject.interior else {
        return match subject.failures.probe(spec.kind.word()) {
            true => Outcome::Failure("the stand-in was told to fail by the annotation kilter.dev/fail".into()),
            false => Outcome::Success,
        };
    };
    match interior.run(command.to_vec(), spec.timeout).await {
        Ok(ended) if ended.code == 0 => Outcome::Success,
        Ok(ended) => Outcome::Failure(ended.output),
        Err(error @ RunError::Timeout { .. }) => Outcome::Failure(error.to_string()),
        Err(error @ RunError::Failed(_)) => Outcome::Error(error.to_string()),
    }
}

async fn tcp(host: Option<&str>, pod: IpAddr, port: u16, timeout: Duration) -> Outcome {
    let authority = dial::joined(host, pod, port);
    match tokio::time::timeout(timeout, dial::tcp(host, pod, port)).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => {
            Outcome::Failure(format!("dial tcp {authority}: connect: {}", dial::words(&error)))
        }
        Err(_) => Outcome::Failure(format!("dial tcp {authority}: i/o timeout")),
    }
}

async fn grpc_check(pod: IpAddr, port: u16, service: &str, spec: &ProbeSpec) -> Outcome {
    let authority = dial::joined(None, pod, port);
    let seconds = spec.timeout.as_secs();
    let deadline = Instant::now() + spec.timeout;
    let stream = match tokio::time::timeout_at(deadline, dial::tcp(None, pod, port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let why = dial::words(&error);
            return Outcome::Failure(format!(
                "error: failed to connect service at {authority:?}: dial tcp {authority}: connect: {why}"
            ));
        }
        Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {authority:?} within {seconds}s: context deadline exceeded"
            ));
        }
    };
    let check = grpc::check(stream, &authority, service, spec.kind.word());
    match tokio::time::timeout_at(deadline, check).await {
        Ok(Ok(grpc::SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            Outcome::Failure(format!("service unhealthy (responded with {:?})", grpc::status_name(status)))
        }
        Ok(Err(error)) => Outcome::Failure(format!("error: {error:#}")),
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {seconds}s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Kind;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Answers `/CODE` with that status; `/hang` with nothing, `/cut` with half a body.
    async fn server() -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let answer = match request.split(' ').nth(1).unwrap_or_default() {
                        "/hang" => return std::future::pending().await,
                        "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut".to_owned(),
                        "/elsewhere" => {
                            "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 4\r\n\r\nover".to_owned()
                        }
                        path => format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", &path[1..]),
                    };
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn what_an_answer_means() {
        let port = server().await;
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let get = |path: &str| json!({"httpGet": {"port": port, "path": path}, "timeoutSeconds": 1});
        let refused = format!("dial tcp 127.0.0.1:{closed}: connect: connection refused");
        let failure = |why: &str| format!("failure: {why}");
        let table: [(Value, String); 14] = [
            (get("/200"), "success".into()),
            (get("/204"), "success".into()),
            (get("/304"), "warning: Probe terminated redirects, Response body: ".into()),
            (get("/elsewhere"), "warning: Probe terminated redirects, Response body: over".into()),
            (get("/400"), failure("HTTP probe failed with statuscode: 400")),
            (get("/503"), failure("HTTP probe failed with statuscode: 503")),
            (
                get("/hang"),
                failure(&format!(
                    "Get \"http://127.0.0.1:{port}/hang\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                )),
            ),
            (get("/cut"), "error".into()),
            (
                json!({"httpGet": {"port": closed}}),
                failure(&format!("Get \"http://127.0.0.1:{closed}/\": {refused}")),
            ),
            (json!({"httpGet": {"port": "nope"}}), "error".into()),
            (json!({"tcpSocket": {"port": port}}), "success".into()),
            (json!({"tcpSocket": {"port": closed}}), failure(&refused)),
            (json!({"tcpSocket": {"port": port, "host": "127.0.0.1"}}), "success".into()),
            (
                json!({"grpc": {"port": closed}}),
                failure(&format!("error: failed to connect service at \"127.0.0.1:{closed}\": {refused}")),
            ),
        ];
        let prober = Prober::new().unwrap();
        let subject = Subject {
            address: "127.0.0.1".parse().unwrap(),
            failures: Failures::default(),
            interior: None,
        };
        for (declared, expected) in table {
            let container = serde_json::from_value(json!({"name": "c", "livenessProbe": declared})).unwrap();
            let spec = ProbeSpec::of(&container).remove(0);
            assert_eq!(spec.kind, Kind::Liveness);
            let found = match prober.probe(&spec, &subject).await {
                Outcome::Success => "success".to_owned(),
                Outcome::Warning(what) => format!("warning: {what}"),
                Outcome::Failure(why) => format!("failure: {why}"),
                Outcome::Error(_) => "error".to_owned(),
            };
            assert_eq!(found, expected, "{declared}");
        }
    }
}
