use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::version::PROBE_USER_AGENT;

/// One GET over a connection that is not kept; the response's status.
pub(super) async fn get<S>(
    stream: S,
    authority: &str,
    path: &str,
    headers: &[(String, String)],
) -> anyhow::Result<u16>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path).body(Empty::<bytes::Bytes>::new())?;
    *request.headers_mut() = all_headers(authority, headers)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut response = std::pin::pin!(sender.send_request(request));
    // The body is not read: once the headers are there, the connection may go.
    tokio::select! {
        response = &mut response => Ok(response?.status().as_u16()),
        ended = connection => {
            ended?;
            // It may end just after it has handed over the answer.
            Ok(response.await?.status().as_u16())
        }
    }
}

/// The probe's headers over the kubelet's own; an empty value removes one of those.
fn all_headers(authority: &str, given: &[(String, String)]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_str(authority)?);
    headers.insert(USER_AGENT, HeaderValue::from_static(PROBE_USER_AGENT));
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
        let headers = all_headers("10.0.0.1:80", &given).unwrap();
        assert_eq!(headers.get(HOST).unwrap(), "shop.example");
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(headers.get(USER_AGENT).is_none());
        assert_eq!(all_headers("10.0.0.1:80", &[]).unwrap().get(HOST).unwrap(), "10.0.0.1:80");
        assert!(all_headers("a", &[("bad name".into(), "x".into())]).is_err());
    }
}
