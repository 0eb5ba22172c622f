//! The two requests that discovery makes of the Kubernetes API, and the few fields of a pod that are kept.
//!
//! By hand over our own HTTP client: a client library would be half of the agent's memory.

use super::watch_stream::WatchStream;
use crate::http::{Client, Endpoint, HttpError, Reach};
use crate::tls::TlsSettings;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// Pods per page: a pod is some 10 KiB of JSON, and a page is held in memory.
const PAGE: u32 = 100;
const MOST_PAGE_BYTES: usize = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);
/// The API server ends a watch after this; a new one goes on where it ended.
const WATCH_SECONDS: u32 = 290;

/// Where the API server is and as whom to speak to it.
#[derive(Clone, Debug)]
pub struct KubeApi {
    pub endpoint: Endpoint,
    /// Folder with `token` and `ca.crt` of the pod's service account.
    pub service_account: PathBuf,
}

impl KubeApi {
    /// From the variables that every pod has.
    pub fn from_variables(host: Option<String>, port: Option<String>, service_account: PathBuf) -> Option<Self> {
        let host = host.filter(|host| !host.is_empty())?;
        let port = port.and_then(|port| port.parse().ok()).unwrap_or(443);
        Some(KubeApi { endpoint: Endpoint { tls: true, host, port }, service_account })
    }
}

/// Why pods cannot be listed or watched.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("the service account's token {} cannot be read", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the request cannot be made")]
    Request(#[source] http::Error),
    #[error("the API server cannot be reached")]
    Http(#[source] HttpError),
    #[error("the API server refuses with {status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("the API server's answer cannot be read")]
    Json(#[source] serde_json::Error),
    #[error("the watch broke off")]
    Broken(#[source] hyper::Error),
    #[error("one object of the watch is longer than {0} bytes")]
    TooLong(usize),
    #[error("the API server ends the watch with {code}: {message}")]
    Ended { code: u16, message: String },
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    pub node_name: String,
    pub containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub name: String,
    pub container_port: u16,
    pub protocol: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub phase: String,
    #[serde(rename = "podIP")]
    pub pod_ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    metadata: ListMetadata,
    items: Vec<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    more: String,
}

/// Requests for the pods of one namespace that a selector chooses.
pub struct PodApi<'a> {
    api: &'a KubeApi,
    namespace: &'a str,
    selector: &'a str,
    client: Client,
    body: Vec<u8>,
}

impl<'a> PodApi<'a> {
    pub fn new(api: &'a KubeApi, namespace: &'a str, selector: &'a str) -> Self {
        let tls = TlsSettings::authority(&api.service_account.join("ca.crt"));
        let client = Client::new(api.endpoint.clone(), Some(tls), Reach::Trusted, TIMEOUT);
        PodApi { api, namespace, selector, client, body: Vec::new() }
    }

    /// All pods, page by page, and the version to watch from.
    pub async fn list(&mut self) -> Result<(Vec<Pod>, String), ApiError> {
        let mut pods = Vec::new();
        let mut more = String::new();
        loop {
            let mut query = format!("limit={PAGE}");
            if !more.is_empty() {
                query.push_str("&continue=");
                percent_encode(&mut query, &more);
            }
            let request = self.request(&query)?;
            let answer = self.client.send(request, MOST_PAGE_BYTES, &mut self.body).await.map_err(ApiError::Http)?;
            if answer.status == StatusCode::GONE && !more.is_empty() {
                // The pages' version is too old by now: from the beginning.
                pods.clear();
                more.clear();
                continue;
            }
            if !answer.status.is_success() {
                return Err(refused(answer.status, &self.body));
            }
            let list: List = serde_json::from_slice(&self.body).map_err(ApiError::Json)?;
            pods.extend(list.items);
            more = list.metadata.more;
            if more.is_empty() {
                self.body = Vec::new();
                return Ok((pods, list.metadata.resource_version));
            }
        }
    }

    /// Changes since a version.
    pub async fn watch(&mut self, version: &str) -> Result<WatchStream, ApiError> {
        let mut query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion=");
        percent_encode(&mut query, version);
        let request = self.request(&query)?;
        let response = self.client.open(request).await.map_err(ApiError::Http)?;
        let status = response.status();
        let stream = WatchStream::new(response.into_body(), Duration::from_secs(u64::from(WATCH_SECONDS) + 30));
        if status == StatusCode::GONE {
            return Ok(WatchStream::expired(stream));
        }
        if !status.is_success() {
            return Err(refused(status, &stream.rest().await));
        }
        Ok(stream)
    }

    fn request(&self, query: &str) -> Result<Request<Bytes>, ApiError> {
        let path = self.api.service_account.join("token");
        let token = std::fs::read_to_string(&path).map_err(|source| ApiError::Token { path, source })?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|error| ApiError::Request(error.into()))?;
        bearer.set_sensitive(true);
        let mut uri = "/api/v1/namespaces/".to_owned();
        percent_encode(&mut uri, self.namespace);
        uri.push_str("/pods?labelSelector=");
        percent_encode(&mut uri, self.selector);
        uri.push('&');
        uri.push_str(query);
        Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, bearer)
            .body(Bytes::new())
            .map_err(ApiError::Request)
    }
}

fn refused(status: StatusCode, body: &[u8]) -> ApiError {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let message = match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.message,
        Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
    };
    ApiError::Refused { status, message }
}

fn percent_encode(out: &mut String, text: &str) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_encoded_for_the_query() {
        let mut out = String::new();
        percent_encode(&mut out, "app in (a, b),x=y");
        assert_eq!(out, "app%20in%20%28a%2C%20b%29%2Cx%3Dy");
    }

    #[test]
    fn a_refusal_says_what_the_api_server_said() {
        let error = refused(StatusCode::FORBIDDEN, br#"{"kind": "Status", "message": "pods is forbidden"}"#);
        assert_eq!(error.to_string(), "the API server refuses with 403 Forbidden: pods is forbidden");
    }
}
