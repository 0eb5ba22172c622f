//! Reading the agent's configuration: one JSON file, made by `plan` and mounted from a ConfigMap.

use crate::http::Endpoint;
use ers_model::agent_config::{AGENT_CONFIG_VERSION, AgentConfig, Source};
use serde::Deserialize;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A ConfigMap cannot be longer.
const MOST_BYTES: u64 = 1024 * 1024;
/// The shortest interval and the longest, in seconds.
const INTERVALS: std::ops::RangeInclusive<u32> = 1..=3600;
/// A spool below this cannot hold one scrape of a kubelet.
const LEAST_SPOOL_BYTES: u64 = 1024 * 1024;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration {} is longer than 1 MiB", path.display())]
    TooLong { path: PathBuf },
    #[error("the configuration {} is no valid JSON of an agent's configuration", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "the configuration {} has version {found}, this agent reads version {AGENT_CONFIG_VERSION}: \
         use an agent of the operator's release",
        path.display()
    )]
    Version { path: PathBuf, found: u64 },
    #[error("the configuration {}: {field}: {problem}", path.display())]
    Invalid { path: PathBuf, field: &'static str, problem: String },
}

/// Only the version, so that a file of another version is refused by its version and not by its fields.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// Reads and checks a configuration.
pub fn load(path: &Path) -> Result<AgentConfig, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(read)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(ConfigError::TooLong { path: path.to_owned() });
    }
    let parse = |source| ConfigError::Parse { path: path.to_owned(), source };
    let Versioned { version } = serde_json::from_slice(&text).map_err(parse)?;
    if version != u64::from(AGENT_CONFIG_VERSION) {
        return Err(ConfigError::Version { path: path.to_owned(), found: version });
    }
    let config: AgentConfig = serde_json::from_slice(&text).map_err(parse)?;
    check(&config).map_err(|(field, problem)| ConfigError::Invalid { path: path.to_owned(), field, problem })?;
    Ok(config)
}

fn check(config: &AgentConfig) -> Result<(), (&'static str, String)> {
    if !INTERVALS.contains(&config.interval_seconds) {
        return Err(("intervalSeconds", format!("{} is not between 1 and 3600", config.interval_seconds)));
    }
    if config.timeout_seconds == 0 || config.timeout_seconds > config.interval_seconds {
        let problem = format!("{} is not between 1 and intervalSeconds", config.timeout_seconds);
        return Err(("timeoutSeconds", problem));
    }
    if config.config_hash.is_empty() || !config.config_hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(("configHash", format!("{:?} is no hash", config.config_hash)));
    }
    if config.target.is_empty() {
        return Err(("target", "is empty".to_owned()));
    }
    if config.spool.max_bytes < LEAST_SPOOL_BYTES {
        return Err(("spool.maxBytes", format!("{} is less than 1 MiB", config.spool.max_bytes)));
    }
    if config.sources.is_empty() {
        return Err(("sources", "there are none: nothing would be collected".to_owned()));
    }
    let endpoint = Endpoint::parse(&config.destination.url).map_err(|error| ("destination.url", error.to_string()))?;
    let is_loopback =
        endpoint.host == "localhost" || endpoint.host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
    if !endpoint.tls && !is_loopback {
        return Err(("destination.url", "http:// is for loopback only: a token would travel in the clear".to_owned()));
    }
    let hosts = config.sources.iter().filter(|source| matches!(source, Source::HostMetrics { .. })).count();
    if hosts > 1 {
        return Err(("sources", "there are several of kind HostMetrics: one machine is read once".to_owned()));
    }
    for (at, source) in config.sources.iter().enumerate() {
        if config.sources[..at].iter().any(|other| other.name() == source.name()) {
            return Err(("sources", format!("the name {:?} occurs twice", source.name())));
        }
        if let Source::Pods { selector, endpoints, .. } = source {
            if selector.is_empty() {
                return Err(("sources.selector", "is empty: it would select every pod of the namespace".to_owned()));
            }
            if endpoints.is_empty() {
                return Err(("sources.endpoints", "there are none".to_owned()));
            }
            if let Some(endpoint) = endpoints.iter().find(|endpoint| !endpoint.path.starts_with('/')) {
                return Err(("sources.endpoints.path", format!("{:?} does not begin with '/'", endpoint.path)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = r#"{"version": 1, "configHash": "abc", "namespace": "n", "target": "t",
        "destination": {"url": "https://server.n.svc:8443", "caFile": "/ca", "tokenFile": "/token"},
        "intervalSeconds": 15, "timeoutSeconds": 10,
        "limits": {"maxSeries": 1000, "maxLabels": 30, "maxBodyBytes": 1000000},
        "spool": {"maxBytes": 10000000}, "sources": [{"kind": "HostMetrics", "name": "host"}]}"#;

    #[track_caller]
    fn check_error(from: &str, to: &str, expect: &str) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("agent.json");
        assert!(VALID.contains(from), "{from}");
        std::fs::write(&path, VALID.replace(from, to)).expect("write");
        let error = load(&path).expect_err("must be refused").to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_valid_configuration_is_read() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("agent.json");
        std::fs::write(&path, VALID).expect("write");
        assert_eq!(load(&path).expect("valid").target, "t");
    }

    #[test]
    fn refusals_name_the_field_and_the_way_out() {
        check_error("\"version\": 1", "\"version\": 2", "has version 2, this agent reads version 1: use an agent of");
        check_error("\"intervalSeconds\": 15", "\"intervalSeconds\": 0", "intervalSeconds: 0 is not between");
        check_error("\"timeoutSeconds\": 10", "\"timeoutSeconds\": 20", "timeoutSeconds: 20 is not between");
        check_error("10000000", "10", "spool.maxBytes: 10 is less than 1 MiB");
        check_error("https://server", "ftp://server", "destination.url");
        check_error("https://server", "http://server", "for loopback only");
        check_error("{\"kind\": \"HostMetrics\", \"name\": \"host\"}", "", "sources: there are none");
        check_error("\"spool\"", "\"spoon\"", "no valid JSON");
    }
}
