//! A server on loopback that takes remote write over TLS and answers as a test says, and one for anything else.

use bytes::Bytes;
use ers_wire::remote_write::{decode_series, decompress};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Longest that a test waits for something to come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One request as it came.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub struct Received {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// What was answered; 0 for a reset.
    pub status: u16,
}

#[allow(dead_code, reason = "each test binary uses its part of this module")]
impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Series as `name{a="b", ...}` with values and times, of a remote write request.
    pub fn series(&self) -> Vec<(String, f64, i64)> {
        let mut plain = Vec::new();
        decompress(&self.body, 64 << 20, &mut plain).expect("snappy");
        let mut found = Vec::new();
        for series in decode_series(&plain) {
            let series = series.expect("a series");
            let labels: Vec<(String, String)> = series
                .labels()
                .map(|label| label.map(|(name, value)| (name.to_owned(), value.to_owned())).expect("a label"))
                .collect();
            assert!(labels.is_sorted(), "labels are sorted: {labels:?}");
            let name = ers_model::Labels::from_pairs(labels).to_string();
            for sample in series.samples() {
                let sample = sample.expect("a sample");
                found.push((name.clone(), sample.value, sample.timestamp_ms));
            }
        }
        found
    }
}

/// How to answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Break the connection off after half of the body.
    pub reset: bool,
}

#[allow(dead_code, reason = "each test binary uses its part of this module")]
impl Reply {
    pub fn status(status: u16) -> Self {
        Reply { status, headers: Vec::new(), body: Vec::new(), reset: false }
    }

    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn reset() -> Self {
        Reply { reset: true, ..Reply::status(200).with_body("half of it") }
    }
}

type Script = Box<dyn FnMut(&Received) -> Reply + Send>;

struct Inner {
    script: Mutex<Script>,
    received: Mutex<Vec<Received>>,
    came: Condvar,
}

/// The server; ends with the test's process.
pub struct Server {
    pub address: SocketAddr,
    /// PEM of its authority.
    pub authority: String,
    inner: Arc<Inner>,
}

#[allow(dead_code, reason = "each test binary uses its part of this module")]
impl Server {
    /// With TLS, for `localhost` and `127.0.0.1`.
    pub fn start(script: impl FnMut(&Received) -> Reply + Send + 'static) -> Server {
        Self::listen("127.0.0.1:0".parse().expect("address"), true, Box::new(script))
    }

    /// Plain HTTP, as pods speak.
    pub fn start_plain(script: impl FnMut(&Received) -> Reply + Send + 'static) -> Server {
        Self::listen("127.0.0.1:0".parse().expect("address"), false, Box::new(script))
    }

    fn listen(address: SocketAddr, tls: bool, script: Script) -> Server {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
        let authority = made.cert.pem();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a usable certificate");
        let acceptor = tls.then(|| TlsAcceptor::from(Arc::new(config)));
        let inner = Arc::new(Inner { script: Mutex::new(script), received: Mutex::default(), came: Condvar::new() });
        let (tell, told) = std::sync::mpsc::channel();
        let serving = inner.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.expect("bind");
                tell.send(listener.local_addr().expect("address")).expect("told");
                loop {
                    let (stream, _) = listener.accept().await.expect("accept");
                    let (inner, acceptor) = (serving.clone(), acceptor.clone());
                    tokio::spawn(async move {
                        match acceptor {
                            Some(acceptor) => {
                                if let Ok(stream) = acceptor.accept(stream).await {
                                    serve(TokioIo::new(stream), inner).await;
                                }
                            }
                            None => serve(TokioIo::new(stream), inner).await,
                        }
                    });
                }
            });
        });
        Server { address: told.recv().expect("listening"), authority, inner }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// Answers differently from now on.
    pub fn answer(&self, script: impl FnMut(&Received) -> Reply + Send + 'static) {
        *self.inner.script.lock().expect("lock") = Box::new(script);
    }

    pub fn received(&self) -> Vec<Received> {
        self.inner.received.lock().expect("lock").clone()
    }

    /// Waits until what came satisfies the condition; returns it.
    #[track_caller]
    pub fn wait(&self, what: &str, mut is_enough: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
        let until = Instant::now() + PATIENCE;
        let mut received = self.inner.received.lock().expect("lock");
        while !is_enough(&received) {
            let left = until.saturating_duration_since(Instant::now());
            let seen: Vec<(u16, usize)> = received.iter().map(|one| (one.status, one.body.len())).collect();
            assert!(!left.is_zero(), "waited in vain for {what}; came: {seen:?}");
            received = self.inner.came.wait_timeout(received, left).expect("lock").0;
        }
        received.clone()
    }
}

async fn serve<T>(io: T, inner: Arc<Inner>)
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| answer(request, inner.clone()));
    // A connection that breaks off is what some tests want.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
}

async fn answer(request: Request<Incoming>, inner: Arc<Inner>) -> Result<Response<Full<Bytes>>, Broken> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes().to_vec();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let mut received =
        Received { method: parts.method.to_string(), path: parts.uri.to_string(), headers, body, status: 0 };
    let reply = (inner.script.lock().expect("lock"))(&received);
    if !reply.reset {
        received.status = reply.status;
    }
    inner.received.lock().expect("lock").push(received);
    inner.came.notify_all();
    if reply.reset {
        return Err(Broken);
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(reply.body))).expect("a response"))
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
