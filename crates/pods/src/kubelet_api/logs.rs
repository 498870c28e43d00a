use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;

use super::{Refused, find, query};
use crate::logs::{Line, Log, Reader};
use crate::sync::Shared;

/// What `kubectl logs` may ask for (core/v1 `PodLogOptions`).
#[derive(Debug, Default, PartialEq)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<u64>,
    since: Option<Timestamp>,
    limit: Option<usize>,
}

impl Options {
    fn read(query: Option<&str>, now: Timestamp) -> Result<Self, Refused> {
        let pairs = query::pairs(query);
        let number = |key: &str| match query::value(&pairs, key) {
            None => Ok(None),
            Some(text) => text.parse::<u32>().map(Some).map_err(|_| bad(key, text)),
        };
        let since_time = match query::value(&pairs, "sinceTime") {
            None => None,
            Some(text) => Some(text.parse::<Timestamp>().map_err(|_| bad("sinceTime", text))?),
        };
        let since_seconds = number("sinceSeconds")?;
        let before = |seconds: u32| now.as_second().saturating_sub(seconds.into());
        let since = since_seconds.and_then(|seconds| Timestamp::from_second(before(seconds)).ok());
        Ok(Self {
            follow: query::flag(&pairs, "follow"),
            previous: query::flag(&pairs, "previous"),
            timestamps: query::flag(&pairs, "timestamps"),
            tail: number("tailLines")?.map(u64::from),
            since: since_time.or(since),
            limit: number("limitBytes")?.map(|limit| limit as usize),
        })
    }
}

fn bad(key: &str, value: &str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, format!("{key}: {value:?} is not a valid value"))
}

/// `GET /containerLogs/{namespace}/{pod}/{container}`.
pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let options = Options::read(query.as_deref(), Timestamp::now())?;
    let (_, view) = find(&shared, &namespace, &pod, &container)?;
    let log = match options.previous {
        false => view.log,
        true => view.previous_log.ok_or_else(|| {
            let what = format!("previous terminated container {container:?} in pod {pod:?} not found");
            Refused(StatusCode::BAD_REQUEST, what)
        })?,
    };
    let body = Body::from_stream(stream(log, options).map(Ok::<_, std::convert::Infallible>));
    Ok(Response::builder().header("content-type", "text/plain").body(body).unwrap_or_default())
}

fn stream(log: Arc<Log>, options: Options) -> impl futures::Stream<Item = Bytes> + Send {
    let reader = log.read(options.tail);
    let left = options.limit.unwrap_or(usize::MAX);
    let start = Following { log, reader, options, left, ended: false };
    futures::stream::unfold(start, |mut following| async move {
        let chunk = following.next().await?;
        Some((chunk, following))
    })
}

struct Following {
    log: Arc<Log>,
    reader: Reader,
    options: Options,
    left: usize,
    ended: bool,
}

impl Following {
    /// The next piece of the log, which may be empty; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.left == 0 {
                return None;
            }
            let lines = self.log.take(&mut self.reader);
            let mut text = String::new();
            for line in lines.iter().filter(|line| self.options.since.is_none_or(|since| line.at >= since)) {
                format_line(&mut text, line, self.options.timestamps);
            }
            if !text.is_empty() {
                text.truncate(text.floor_char_boundary(self.left));
                self.left = if text.is_empty() { 0 } else { self.left - text.len() };
                return Some(text.into());
            }
            if self.ended || !self.options.follow {
                return None;
            }
            self.ended = !self.reader.more().await;
        }
    }
}

fn format_line(text: &mut String, line: &Line, timestamps: bool) {
    use std::fmt::Write as _;
    if timestamps {
        let _ = write!(text, "{:.9} ", line.at);
    }
    text.push_str(&line.text);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(log: &Arc<Log>, query: &str) -> String {
        let options = Options::read(Some(query), Timestamp::now()).unwrap();
        let chunks: Vec<Bytes> = stream(log.clone(), options).collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn options_choose_what_is_read() {
        let log = Arc::new(Log::default());
        for line in ["one", "two", "three"] {
            log.print(line);
        }
        assert_eq!(read(&log, "").await, "one\ntwo\nthree\n");
        assert_eq!(read(&log, "tailLines=1").await, "three\n");
        assert_eq!(read(&log, "tailLines=0").await, "");
        assert_eq!(read(&log, "limitBytes=5").await, "one\nt");
        assert_eq!(read(&log, "sinceSeconds=60").await, "one\ntwo\nthree\n");
        assert_eq!(read(&log, "sinceTime=2999-01-01T00:00:00Z").await, "");
        let stamped = read(&log, "timestamps=true&tailLines=1").await;
        let (stamp, text) = stamped.trim_end().split_once(' ').unwrap();
        assert!(stamp.parse::<Timestamp>().is_ok() && stamp.ends_with('Z') && text == "three", "{stamped}");
        assert!(Options::read(Some("tailLines=x"), Timestamp::now()).is_err());
    }

    #[tokio::test]
    async fn following_ends_with_the_container() {
        let log = Arc::new(Log::default());
        log.print("one");
        let reading = tokio::spawn({
            let log = log.clone();
            async move { read(&log, "follow=true").await }
        });
        log.print("two");
        log.end();
        assert_eq!(reading.await.unwrap(), "one\ntwo\n");
    }
}
