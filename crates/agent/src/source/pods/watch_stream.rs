//! The answer to a watch: one JSON object per line, for minutes.

use super::api::{ApiError, Pod};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use std::time::Duration;

/// Longest object: etcd takes no more than 1.5 MiB.
const MOST_LINE_BYTES: usize = 4 * 1024 * 1024;
const MOST_ERROR_BYTES: usize = 16 * 1024;

/// What happened to a pod.
#[derive(Debug)]
pub enum Change {
    Applied(Box<Pod>),
    Deleted(Box<Pod>),
    /// Nothing did, up to this version.
    Bookmark(String),
    /// The version that the watch began at is too old.
    Expired,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a serde_json::value::RawValue,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

/// Changes, as they come.
pub struct WatchStream {
    body: Option<Incoming>,
    buffer: Vec<u8>,
    /// Silence for longer than this is a dead connection: the API server would have ended the watch by itself.
    patience: Duration,
    expired: bool,
}

impl WatchStream {
    pub fn new(body: Incoming, patience: Duration) -> Self {
        WatchStream { body: Some(body), buffer: Vec::new(), patience, expired: false }
    }

    /// A watch that could not begin because its version is too old.
    pub fn expired(stream: WatchStream) -> Self {
        WatchStream { body: None, expired: true, ..stream }
    }

    /// The next change; `None` when the API server has ended the watch, as it does every few minutes.
    pub async fn next(&mut self) -> Result<Option<Change>, ApiError> {
        if self.expired {
            return Ok(Some(Change::Expired));
        }
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let change = parse(&self.buffer[..end]);
                self.buffer.drain(..=end);
                return change.map(Some);
            }
            if self.buffer.len() > MOST_LINE_BYTES {
                return Err(ApiError::TooLong(MOST_LINE_BYTES));
            }
            let Some(body) = &mut self.body else {
                return Ok(None);
            };
            match tokio::time::timeout(self.patience, body.frame()).await {
                Ok(Some(Ok(frame))) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
                Ok(Some(Err(source))) => return Err(ApiError::Broken(source)),
                Ok(None) | Err(_) => self.body = None,
            }
        }
    }

    /// What is left of the body, for the message of a refusal.
    pub async fn rest(self) -> Vec<u8> {
        let Some(body) = self.body else {
            return Vec::new();
        };
        let whole = Limited::new(body, MOST_ERROR_BYTES).collect().await;
        whole.map(|collected| collected.to_bytes().to_vec()).unwrap_or_default()
    }
}

fn parse(line: &[u8]) -> Result<Change, ApiError> {
    let event: Event<'_> = serde_json::from_slice(line).map_err(ApiError::Json)?;
    if event.kind == "ERROR" {
        let failure: Failure = serde_json::from_str(event.object.get()).map_err(ApiError::Json)?;
        return match failure.code {
            410 => Ok(Change::Expired),
            code => Err(ApiError::Ended { code, message: failure.message }),
        };
    }
    let pod: Box<Pod> = serde_json::from_str(event.object.get()).map_err(ApiError::Json)?;
    Ok(match event.kind {
        "DELETED" => Change::Deleted(pod),
        "BOOKMARK" => Change::Bookmark(pod.metadata.resource_version),
        _ => Change::Applied(pod),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_changes() {
        let pod = r#"{"metadata": {"uid": "u", "resourceVersion": "7"}}"#;
        let line = |kind: &str, object: &str| format!("{{\"type\": \"{kind}\", \"object\": {object}}}");
        let parsed = |kind: &str, object: &str| parse(line(kind, object).as_bytes());
        assert!(matches!(parsed("ADDED", pod), Ok(Change::Applied(pod)) if pod.metadata.uid == "u"));
        assert!(matches!(parsed("DELETED", pod), Ok(Change::Deleted(_))));
        assert!(matches!(parsed("BOOKMARK", pod), Ok(Change::Bookmark(version)) if version == "7"));
        assert!(matches!(parsed("ERROR", r#"{"code": 410}"#), Ok(Change::Expired)));
        assert!(matches!(parsed("ERROR", r#"{"code": 500}"#), Err(ApiError::Ended { code: 500, .. })));
        assert!(parse(b"{").is_err());
    }
}
