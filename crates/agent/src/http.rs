//! A small HTTP/1.1 client: one kept connection per peer, limits before allocation, gzip, every failure with a name.

use crate::tls::TlsSettings;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Most of an error answer's body that is kept for the log.
const MOST_ERROR_BYTES: usize = 4 * 1024;

/// Scheme, host and port of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

/// Why an address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("is no address such as https://server:8443")]
    Malformed,
    #[error("must begin with https:// (or http:// for loopback)")]
    Scheme,
    #[error("must have no path, query or user")]
    Extra,
}

impl Endpoint {
    /// `https://host[:port]`, with or without a final slash.
    pub fn parse(url: &str) -> Result<Endpoint, EndpointError> {
        let uri: Uri = url.parse().map_err(|_| EndpointError::Malformed)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(EndpointError::Scheme),
            None => return Err(EndpointError::Malformed),
        };
        if uri.path() != "/" || uri.query().is_some() || uri.authority().is_none_or(|all| all.as_str().contains('@')) {
            return Err(EndpointError::Extra);
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(EndpointError::Malformed)?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Endpoint { tls, host: host.trim_matches(['[', ']']).to_owned(), port })
    }

    /// For the `Host` header and for labels: IPv6 addresses in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Why there is no answer. [`HttpError::reason`] is a word for labels.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("the name {host} cannot be resolved")]
    Resolve {
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{address} is not to be connected to: {why}")]
    Forbidden { address: IpAddr, why: &'static str },
    #[error("cannot connect to {peer}")]
    Connect {
        peer: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no TLS with {peer}")]
    Tls {
        peer: String,
        #[source]
        source: std::io::Error,
    },
    #[error("TLS cannot be set up")]
    TlsSettings(#[source] crate::tls::TlsError),
    #[error("{peer} is no name that a certificate can carry")]
    ServerName { peer: String },
    #[error("the request cannot be made")]
    Request(#[source] http::Error),
    #[error("the exchange with {peer} broke off")]
    Exchange {
        peer: String,
        #[source]
        source: hyper::Error,
    },
    #[error("no whole answer within {seconds} s")]
    Timeout { seconds: u64 },
    #[error("the answer is longer than {limit} bytes")]
    BodyTooLong { limit: usize },
    #[error("the answer's compression is damaged")]
    Compression(#[source] std::io::Error),
    #[error("the answer is redirected to another place, {location:?}, which is not followed")]
    Redirect { location: String },
}

impl HttpError {
    /// One of a closed set of words.
    pub fn reason(&self) -> &'static str {
        match self {
            HttpError::Resolve { .. } => "name_not_resolved",
            HttpError::Forbidden { .. } => "address_forbidden",
            HttpError::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused => {
                "connection_refused"
            }
            HttpError::Connect { .. } => "connection_failed",
            HttpError::Tls { .. } | HttpError::TlsSettings(_) | HttpError::ServerName { .. } => "tls_failed",
            HttpError::Request(_) => "bad_request",
            HttpError::Exchange { .. } => "connection_broken",
            HttpError::Timeout { .. } => "timeout",
            HttpError::BodyTooLong { .. } => "body_too_long",
            HttpError::Compression(_) => "bad_compression",
            HttpError::Redirect { .. } => "redirected",
        }
    }
}

/// Which addresses a peer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Chosen by whoever runs the cluster: the server, the API server, the kubelet.
    Trusted,
    /// Chosen by whoever may make a pod: no loopback, no link-local address (cloud metadata), nothing special.
    Pods,
}

/// Why an address is out of reach, if it is.
pub fn forbidden(address: IpAddr, reach: Reach) -> Option<&'static str> {
    if reach == Reach::Trusted {
        return None;
    }
    let address = address.to_canonical();
    // fd00:ec2::254 is AWS' metadata service, fe80::/10 and 169.254/16 everyone else's.
    let is_link_local = match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local() || six.segments()[..2] == [0xfd00, 0x0ec2],
    };
    if address.is_loopback() {
        Some("loopback")
    } else if is_link_local {
        Some("link-local or metadata service")
    } else if address.is_unspecified() || address.is_multicast() {
        Some("no host")
    } else if matches!(address, IpAddr::V4(four) if four.is_broadcast()) {
        Some("broadcast")
    } else {
        None
    }
}

/// A whole answer; the body is in the caller's buffer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After` in seconds; dates are not used by our servers.
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }
}

type Connection = SendRequest<Full<Bytes>>;

/// A client of one peer.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    tls: Option<TlsSettings>,
    reach: Reach,
    timeout: Duration,
    connection: Option<Connection>,
    /// The settings a kept connection was made with: new ones (a new authority) need a new connection.
    made_with: Option<Arc<rustls::ClientConfig>>,
}

impl Client {
    pub fn new(endpoint: Endpoint, tls: Option<TlsSettings>, reach: Reach, timeout: Duration) -> Self {
        Client { endpoint, tls, reach, timeout, connection: None, made_with: None }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request whose URI is a path, and reads the whole answer into `body`, at most `limit` bytes of it after
    /// decompression. Redirects are followed three times, within the same peer only.
    pub async fn send(
        &mut self,
        request: Request<Bytes>,
        limit: usize,
        body: &mut Vec<u8>,
    ) -> Result<Answer, HttpError> {
        let timeout = self.timeout;
        let exchange = async {
            let mut request = request;
            for _ in 0..3 {
                let answer = self.exchange(clone(&request), limit, body).await?;
                if !answer.status.is_redirection() || answer.status == StatusCode::NOT_MODIFIED {
                    return Ok(answer);
                }
                let location = answer.header("location").unwrap_or_default().to_owned();
                match self.same_peer(&location) {
                    Some(path) => *request.uri_mut() = path,
                    None => return Err(HttpError::Redirect { location }),
                }
            }
            Err(HttpError::Redirect { location: "too many redirects".to_owned() })
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => {
                if result.is_err() {
                    self.connection = None;
                }
                result
            }
            Err(_) => {
                self.connection = None;
                Err(HttpError::Timeout { seconds: timeout.as_secs() })
            }
        }
    }

    /// Starts a request whose answer is read piece by piece, over a connection of its own. Only the head is timed.
    pub async fn open(&mut self, request: Request<Bytes>) -> Result<http::Response<Incoming>, HttpError> {
        let exchange = async {
            let (mut connection, _) = self.connect().await?;
            connection.send_request(self.finish(request)).await.map_err(|source| self.broken(source))
        };
        let timeout = self.timeout;
        tokio::time::timeout(timeout, exchange).await.map_err(|_| HttpError::Timeout { seconds: timeout.as_secs() })?
    }

    fn same_peer(&self, location: &str) -> Option<Uri> {
        let uri: Uri = location.parse().ok()?;
        let path = uri.path_and_query()?.as_str().parse().ok()?;
        match (uri.scheme_str(), uri.host()) {
            (None, None) => Some(path),
            (Some(scheme), Some(host)) => {
                let tls = scheme == "https";
                let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
                let same = tls == self.endpoint.tls && port == self.endpoint.port;
                (same && host.trim_matches(['[', ']']) == self.endpoint.host).then_some(path)
            }
            _ => None,
        }
    }

    async fn exchange(
        &mut self,
        request: Request<Bytes>,
        limit: usize,
        body: &mut Vec<u8>,
    ) -> Result<Answer, HttpError> {
        body.clear();
        let kept = self.kept_connection()?;
        let (mut connection, made_with, is_kept) = match kept {
            Some(connection) => (connection, self.made_with.clone(), true),
            None => {
                let (connection, made_with) = self.connect().await?;
                (connection, made_with, false)
            }
        };
        let mut sent = connection.send_request(self.finish(clone(&request))).await;
        let mut made_with = made_with;
        if is_kept && sent.is_err() {
            // The peer closed a connection that was kept too long; the request is sent once more over a new one.
            (connection, made_with) = self.connect().await?;
            sent = connection.send_request(self.finish(request)).await;
        }
        let response = sent.map_err(|source| self.broken(source))?;
        let (parts, incoming) = response.into_parts();
        let answer = Answer { status: parts.status, headers: parts.headers };
        let limit = if answer.status.is_success() { limit } else { limit.min(MOST_ERROR_BYTES) };
        let whole = self.read_body(&answer, incoming, limit, body).await;
        match whole {
            Ok(()) => {
                self.connection = Some(connection);
                self.made_with = made_with;
                Ok(answer)
            }
            // What an error answer says is only for the log: the first part of it is enough.
            Err(HttpError::BodyTooLong { .. }) if !answer.status.is_success() => Ok(answer),
            Err(other) => Err(other),
        }
    }

    fn kept_connection(&mut self) -> Result<Option<Connection>, HttpError> {
        let Some(connection) = self.connection.take() else {
            return Ok(None);
        };
        let current = match &self.tls {
            Some(settings) if self.endpoint.tls => Some(settings.config().map_err(HttpError::TlsSettings)?),
            _ => None,
        };
        let same = match (&current, &self.made_with) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (None, None) => true,
            _ => false,
        };
        Ok((same && !connection.is_closed() && connection.is_ready()).then_some(connection))
    }

    async fn read_body(
        &self,
        answer: &Answer,
        mut incoming: Incoming,
        limit: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), HttpError> {
        let is_gzip = answer.header("content-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
        let announced = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(HttpError::BodyTooLong { limit });
        }
        if !is_gzip {
            body.reserve(announced.unwrap_or(0));
        }
        let mut sink = Limited { body, limit, full: false };
        let mut decoder = is_gzip.then(|| flate2::write::GzDecoder::new(Vec::with_capacity(32 * 1024)));
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|source| self.broken(source))?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            match &mut decoder {
                None => sink.take(data)?,
                Some(decoder) => {
                    // Small pieces, so that little is decompressed beyond the limit.
                    for piece in data.chunks(16 * 1024) {
                        decoder.write_all(piece).map_err(HttpError::Compression)?;
                        let out = decoder.get_mut();
                        sink.take(out)?;
                        out.clear();
                    }
                }
            }
        }
        if let Some(decoder) = decoder {
            let rest = decoder.finish().map_err(HttpError::Compression)?;
            sink.take(&rest)?;
        }
        Ok(())
    }

    fn broken(&self, source: hyper::Error) -> HttpError {
        HttpError::Exchange { peer: self.endpoint.authority(), source }
    }

    fn finish(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
        let (mut parts, body) = request.into_parts();
        if let Ok(host) = self.endpoint.authority().parse() {
            parts.headers.insert(http::header::HOST, host);
        }
        parts.headers.entry(http::header::USER_AGENT).or_insert(USER_AGENT);
        Request::from_parts(parts, Full::new(body))
    }

    async fn connect(&self) -> Result<(Connection, Option<Arc<rustls::ClientConfig>>), HttpError> {
        let tcp = self.connect_tcp().await?;
        // A latency of milliseconds matters more than packets do.
        let _ = tcp.set_nodelay(true);
        let peer = self.endpoint.authority();
        if !self.endpoint.tls {
            return Ok((self.shake_hands(TokioIo::new(tcp)).await?, None));
        }
        let settings = self.tls.as_ref().ok_or_else(|| HttpError::ServerName { peer: peer.clone() })?;
        let config = settings.config().map_err(HttpError::TlsSettings)?;
        let name = ServerName::try_from(self.endpoint.host.clone())
            .map_err(|_| HttpError::ServerName { peer: peer.clone() })?;
        let stream = TlsConnector::from(config.clone())
            .connect(name, tcp)
            .await
            .map_err(|source| HttpError::Tls { peer, source })?;
        Ok((self.shake_hands(TokioIo::new(stream)).await?, Some(config)))
    }

    async fn shake_hands<T>(&self, io: T) -> Result<Connection, HttpError>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(io).await.map_err(|source| self.broken(source))?;
        tokio::spawn(async move {
            // Its end is seen by whoever holds the other half.
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn connect_tcp(&self) -> Result<TcpStream, HttpError> {
        let host = &self.endpoint.host;
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, self.endpoint.port)],
            Err(_) => tokio::net::lookup_host((host.as_str(), self.endpoint.port))
                .await
                .map_err(|source| HttpError::Resolve { host: host.clone(), source })?
                .collect(),
        };
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            if let Some(why) = forbidden(address.ip(), self.reach) {
                return Err(HttpError::Forbidden { address: address.ip(), why });
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(HttpError::Connect { peer: self.endpoint.authority(), source: last })
    }
}

const USER_AGENT: http::HeaderValue = http::HeaderValue::from_static(concat!("ers-agent/", env!("CARGO_PKG_VERSION")));

fn clone(request: &Request<Bytes>) -> Request<Bytes> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

struct Limited<'b> {
    body: &'b mut Vec<u8>,
    limit: usize,
    full: bool,
}

impl Limited<'_> {
    fn take(&mut self, data: &[u8]) -> Result<(), HttpError> {
        let room = self.limit.saturating_sub(self.body.len());
        self.full |= data.len() > room;
        self.body.extend_from_slice(&data[..data.len().min(room)]);
        if self.full { Err(HttpError::BodyTooLong { limit: self.limit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let endpoint = Endpoint::parse("https://server.team.svc:8443").expect("valid");
        assert_eq!(endpoint, Endpoint { tls: true, host: "server.team.svc".into(), port: 8443 });
        assert_eq!(Endpoint::parse("http://[::1]:9/").expect("valid").authority(), "[::1]:9");
        assert_eq!(Endpoint::parse("https://a/b"), Err(EndpointError::Extra));
        assert_eq!(Endpoint::parse("ftp://a"), Err(EndpointError::Scheme));
        assert_eq!(Endpoint::parse("a:1"), Err(EndpointError::Malformed));
    }

    #[test]
    fn pods_cannot_point_the_agent_at_the_machine_or_the_cloud() {
        let is_forbidden = |address: &str| forbidden(address.parse().expect("address"), Reach::Pods).is_some();
        for address in [
            "127.0.0.1",
            "::1",
            "169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "0.0.0.0",
            "224.0.0.1",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_forbidden(address), "{address}");
        }
        assert!(!is_forbidden("10.1.2.3"));
        assert!(!is_forbidden("fd00::1"));
    }
}
