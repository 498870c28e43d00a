use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use url::Url;

use super::dial;
use super::http::{self, Answer, ExchangeError};

/// Go's client gives up at the tenth redirect, and probes fail then.
const REDIRECTS: usize = 10;

/// A GET that a kubelet makes: of a probe or of a lifecycle hook.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    /// Where to.
    pub(crate) url: Url,
    /// Headers besides the kubelet's own.
    pub(crate) headers: Vec<(String, String)>,
    /// How it introduces itself.
    pub(crate) agent: &'static str,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The server cannot be reached, or does not answer as it should.
    #[error("Get \"{0}\": {1}")]
    Failed(Url, String),
    /// An answer began, but its body could not be read.
    #[error("{0}")]
    Body(String),
}

/// Makes GETs from this process's network namespace, verifying no certificates.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    tls: Arc<rustls::ClientConfig>,
}

impl Fetcher {
    /// It needs nothing but a TLS configuration.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { tls: dial::unverified()? })
    }

    /// The answer, after redirects within the same host; one to another host is an answer itself.
    pub(crate) async fn fetch(&self, fetch: &Fetch, deadline: Instant) -> Result<Answer, FetchError> {
        let (mut url, mut headers) = (fetch.url.clone(), fetch.headers.clone());
        for made in 1.. {
            let answer = match self.exchange(&url, fetch.agent, &headers, deadline).await {
                Ok(answer) => answer,
                Err(ExchangeError::Body(why)) => return Err(FetchError::Body(why)),
                Err(error) => return Err(FetchError::Failed(url, error.to_string())),
            };
            let Some(location) = &answer.redirect else { return Ok(answer) };
            let Ok(next) = url.join(location) else {
                return Err(FetchError::Failed(url, format!("failed to parse Location header {location:?}")));
            };
            if next.host() != fetch.url.host() {
                return Ok(answer);
            }
            if made == REDIRECTS {
                return Err(FetchError::Failed(next, format!("stopped after {REDIRECTS} redirects")));
            }
            if Url::parse(location).is_ok() {
                // An absolute location says itself which host it means.
                headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
            }
            url = next;
        }
        unreachable!("a loop over all numbers does not end")
    }

    async fn exchange(
        &self,
        url: &Url,
        agent: &'static str,
        headers: &[(String, String)],
        deadline: Instant,
    ) -> Result<Answer, ExchangeError> {
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(anyhow::anyhow!("unsupported protocol scheme {other:?}").into()),
        };
        let authority = dial::authority(url);
        let headers = http::all_headers(&authority, agent, headers)?;
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let stream = match timeout_at(deadline, dial::url(url)).await {
            Err(_) => return Err(ExchangeError::Headers),
            Ok(Err(error)) => {
                let why = dial::words(&error);
                return Err(anyhow::anyhow!("dial tcp {authority}: connect: {why}").into());
            }
            Ok(Ok(stream)) => stream,
        };
        if !tls {
            return http::get(stream, &target, headers, deadline).await;
        }
        let name = match url.host() {
            Some(url::Host::Domain(name)) => {
                ServerName::try_from(name.to_owned()).map_err(anyhow::Error::from)?
            }
            Some(url::Host::Ipv4(ip)) => ServerName::from(std::net::IpAddr::V4(ip)),
            Some(url::Host::Ipv6(ip)) => ServerName::from(std::net::IpAddr::V6(ip)),
            None => return Err(anyhow::anyhow!("no Host in request URL").into()),
        };
        let connecting = TlsConnector::from(self.tls.clone()).connect(name, stream);
        let stream = timeout_at(deadline, connecting).await.map_err(|_| ExchangeError::Headers)?;
        http::get(stream.map_err(anyhow::Error::from)?, &target, headers, deadline).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that answers each path as told and tells what it was asked.
    async fn serving(answers: fn(&str) -> String) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap().to_owned();
                let _ = tell.send(request);
                // Who asks may have gone as soon as it knew enough.
                let _ = stream.write_all(answers(&path).as_bytes()).await;
            }
        });
        (address.to_string(), asked)
    }

    async fn fetch(url: &str, headers: &[(&str, &str)]) -> Result<Answer, FetchError> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let fetch = Fetch { url: url.parse().unwrap(), headers: headers.collect(), agent: "kube-probe/1.37" };
        Fetcher::new().unwrap().fetch(&fetch, Instant::now() + Duration::from_secs(5)).await
    }

    fn answer(path: &str) -> String {
        let redirect = |to: &str| format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 4\r\n\r\nover");
        match path {
            "/to-path" => redirect("/well?x=1"),
            "/relative" => redirect("well"),
            "/elsewhere" => redirect("http://192.0.2.1/well"),
            "/round" => redirect("/round"),
            "/nowhere" => "HTTP/1.1 304 Not Modified\r\n\r\n".into(),
            "/long" => format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{}", "x".repeat(20_000)),
            "/cut" => "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nbegins".into(),
            path if path.starts_with("/well") => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell".into(),
            _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        }
    }

    #[tokio::test]
    async fn redirects_are_followed_within_the_host_and_ten_times_at_most() {
        let (at, _asked) = serving(answer).await;
        let status = async |path: &str| fetch(&format!("http://{at}{path}"), &[]).await.map(|a| (a.status, a.body));
        assert_eq!(status("/to-path").await.unwrap(), (200, "well".into()));
        assert_eq!(status("/relative").await.unwrap(), (200, "well".into()));
        assert_eq!(status("/elsewhere").await.unwrap(), (302, "over".into()));
        assert_eq!(status("/nowhere").await.unwrap(), (304, String::new()));
        assert_eq!(
            status("/round").await.unwrap_err().to_string(),
            format!("Get \"http://{at}/round\": stopped after 10 redirects")
        );
    }

    #[tokio::test]
    async fn a_body_is_read_as_far_as_ten_kibibytes_and_one_that_breaks_off_is_no_failure_of_the_server() {
        let (at, _asked) = serving(answer).await;
        assert_eq!(fetch(&format!("http://{at}/long"), &[]).await.unwrap().body.len(), 10 << 10);
        assert!(matches!(fetch(&format!("http://{at}/cut"), &[]).await, Err(FetchError::Body(_))));
    }

    #[tokio::test]
    async fn a_given_host_is_kept_over_a_relative_redirect() {
        let (at, mut asked) = serving(answer).await;
        fetch(&format!("http://{at}/to-path"), &[("Host", "shop.example")]).await.unwrap();
        for _ in 0..2 {
            let request = asked.recv().await.unwrap().to_lowercase();
            assert!(request.contains("host: shop.example\r\n"), "{request}");
            assert!(request.contains("user-agent: kube-probe/1.37\r\n"), "{request}");
        }
    }
}
