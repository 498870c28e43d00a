use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

/// As much of a body is read (kubernetes `pkg/probe/http`); the rest may be as long as it likes.
const BODY_BYTES: usize = 10 << 10;

/// An answer, as far as a kubelet looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The beginning of the body.
    pub(crate) body: String,
    /// Where a redirect that clients follow leads to.
    pub(super) redirect: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// None within the time.
    #[error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Headers,
    /// It began well, but its body could not be read.
    #[error("{0}")]
    Body(String),
    /// Anything else.
    #[error("{0}")]
    Other(#[from] anyhow::Error),
}

impl From<hyper::Error> for ExchangeError {
    fn from(error: hyper::Error) -> Self {
        Self::Other(error.into())
    }
}

/// One GET over a connection that is not kept.
pub(super) async fn get<S>(
    stream: S,
    target: &str,
    headers: HeaderMap,
    deadline: Instant,
) -> Result<Answer, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = Request::get(target).body(Empty::<bytes::Bytes>::new()).map_err(anyhow::Error::from)?;
    *request.headers_mut() = headers;
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut response = std::pin::pin!(sender.send_request(request));
        let mut connection = Box::pin(connection);
        tokio::select! {
            response = &mut response => Ok((response?, Some(connection))),
            ended = &mut connection => {
                ended?;
                // It may end just after it has handed over the answer.
                Ok::<_, ExchangeError>((response.await?, None))
            }
        }
    };
    let (response, connection) = timeout_at(deadline, exchange).await.map_err(|_| ExchangeError::Headers)??;
    let (parts, body) = response.into_parts();
    let body = async {
        match connection {
            None => beginning(body).await,
            Some(connection) => {
                let mut body = std::pin::pin!(beginning(body));
                tokio::select! {
                    read = &mut body => read,
                    _ = connection => body.await,
                }
            }
        }
    };
    let late = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";
    let body = timeout_at(deadline, body).await.map_err(|_| ExchangeError::Body(late.into()))?;
    let body = body.map_err(|error| ExchangeError::Body(crate::error_chain(&error)))?;
    let redirect = follows(parts.status).then(|| parts.headers.get(LOCATION)).flatten();
    Ok(Answer {
        status: parts.status.as_u16(),
        body: String::from_utf8_lossy(&body).into_owned(),
        redirect: redirect.map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned()),
    })
}

async fn beginning(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data[..data.len().min(BODY_BYTES - read.len())]);
        }
        if read.len() == BODY_BYTES {
            break;
        }
    }
    Ok(read)
}

/// The redirects that Go's client follows.
fn follows(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The given headers over the kubelet's own; an empty `User-Agent` or `Accept` removes that.
pub(super) fn all_headers(
    authority: &str,
    agent: &'static str,
    given: &[(String, String)],
) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(authority)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut replaced = Vec::new();
    for (name, value) in given {
        let name: HeaderName = name.parse()?;
        if value.is_empty() && (name == USER_AGENT || name == ACCEPT) {
            headers.remove(&name);
        } else if replaced.contains(&name) {
            headers.append(name, HeaderValue::from_str(value)?);
        } else {
            headers.insert(name.clone(), HeaderValue::from_str(value)?);
            replaced.push(name);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_headers_replace_the_kubelets_and_may_repeat() {
        let given = [("Host", "shop.example"), ("X-A", "1"), ("X-A", "2"), ("User-Agent", "")];
        let given: Vec<_> = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let headers = all_headers("10.0.0.1:80", "kube-probe/1", &given).unwrap();
        assert_eq!(headers.get(HOST).unwrap(), "shop.example");
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(headers.get(USER_AGENT).is_none());
        let own = all_headers("10.0.0.1:80", "kube-probe/1", &[]).unwrap();
        let own = [HOST, USER_AGENT, ACCEPT, CONNECTION].map(|name| own.get(name).unwrap().to_str().unwrap().to_owned());
        assert_eq!(own, ["10.0.0.1:80", "kube-probe/1", "*/*", "close"]);
        assert!(all_headers("a", "kube-probe/1", &[("bad name".into(), "x".into())]).is_err());
    }
}
