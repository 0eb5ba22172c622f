//! Shipping: remote write 1.0 over TLS, the newest first, the backlog beside it, nothing given up that can be kept.
//!
//! | answer | what happens |
//! |---|---|
//! | 2xx | acknowledged |
//! | 401, 403 | kept, tried again, `ers_agent_send_blocked` is 1 |
//! | 408, 429, 5xx, no answer | kept; at the earliest after `Retry-After`, else full jitter up to 30 s |
//! | 413 | cut in two and tried again; a single series goes to the dead letters |
//! | 400, 415, 422 | dead letters, counted, and on with the next |
//! | other 4xx | kept, tried again, `ers_agent_send_blocked` is 1: no server of ours answers so |
//!
//! During an outage one batch is tried at a time, the newest; the backlog lane waits until one got through.

use crate::batch::Batch;
use crate::http::{Answer, Client, Endpoint, Reach};
use crate::metrics::SendResult;
use crate::queue::{Lane, Queue, Sending};
use crate::ready::ReadyLatch;
use crate::tls::TlsSettings;
use bytes::Bytes;
use ers_model::agent_config::AgentConfig;
use ers_model::names::{BATCH_HEADER, CONFIG_HASH_HEADER, TARGET_HEADER};
use http::{HeaderValue, Request, header};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A server that says "come back in an hour" is asked sooner: it may have been replaced meanwhile.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);
/// A server that says "at once" still gets a moment.
const LEAST_RETRY_AFTER: Duration = Duration::from_millis(50);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const MOST_ANSWER_BYTES: usize = 64 * 1024;
/// A backlog is what is older than this, or more than this many batches.
const BACKLOG_AGE_MS: i64 = 10_000;
const BACKLOG_BATCHES: usize = 8;

/// Where to, and as whom.
#[derive(Clone, Debug)]
pub struct Destination {
    pub endpoint: Endpoint,
    pub tls: TlsSettings,
    pub token_file: PathBuf,
    pub target: HeaderValue,
    pub config_hash: HeaderValue,
}

/// Why the destination of a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    #[error("destination.url")]
    Url(#[source] crate::http::EndpointError),
    #[error("{field} cannot be sent as a header")]
    Header { field: &'static str },
}

impl Destination {
    pub fn new(config: &AgentConfig) -> Result<Self, DestinationError> {
        let value = |field, text: &str| HeaderValue::from_str(text).map_err(|_| DestinationError::Header { field });
        Ok(Destination {
            endpoint: Endpoint::parse(&config.destination.url).map_err(DestinationError::Url)?,
            tls: TlsSettings::authority(config.destination.ca_file.as_ref()),
            token_file: config.destination.token_file.clone().into(),
            target: value("target", &config.target)?,
            config_hash: value("configHash", &config.config_hash)?,
        })
    }
}

/// What both lanes share.
#[derive(Clone)]
pub struct Shared {
    pub queue: Rc<RefCell<Queue>>,
    pub ready: Rc<RefCell<ReadyLatch>>,
    /// Something was submitted or given back.
    pub news: Rc<Notify>,
    healthy: Rc<Cell<bool>>,
    /// The server has just answered again: the backlog may go.
    recovered: Rc<Notify>,
}

impl Shared {
    pub fn new(queue: Queue, ready: ReadyLatch) -> Self {
        Shared {
            queue: Rc::new(RefCell::new(queue)),
            ready: Rc::new(RefCell::new(ready)),
            news: Rc::default(),
            healthy: Rc::default(),
            recovered: Rc::default(),
        }
    }

    /// Takes samples over, cut into batches by the writer.
    pub fn submit(&self, parts: Vec<(u32, Bytes)>) {
        if parts.is_empty() {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        for (samples, body) in parts {
            queue.submit(samples, body);
        }
        drop(queue);
        self.news.notify_waiters();
    }
}

/// What became of one attempt.
enum Outcome {
    Acknowledged,
    Rejected { status: u16, message: String },
    TooLong,
    Later { after: Option<Duration>, result: &'static str, detail: String, blocked: bool },
}

/// Sends the newest batch, over and over. Never returns.
pub async fn newest_lane(shared: Shared, destination: Destination) {
    let mut lane = Sender::new(shared.clone(), destination);
    loop {
        let notified = shared.news.notified();
        let next = shared.queue.borrow_mut().next(Lane::Newest);
        let Some(sending) = next else {
            notified.await;
            continue;
        };
        let wait = lane.send(sending).await;
        if let Some(wait) = wait {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Sends the backlog from its beginning, as long as the server answers. Never returns.
pub async fn backlog_lane(shared: Shared, destination: Destination) {
    let mut lane = Sender::new(shared.clone(), destination);
    loop {
        let (notified, recovered) = (shared.news.notified(), shared.recovered.notified());
        let is_backlog = {
            let queue = shared.queue.borrow();
            let waiting = queue.waiting();
            waiting > BACKLOG_BATCHES || (waiting > 1 && queue.oldest_age_ms() > BACKLOG_AGE_MS)
        };
        let next = if is_backlog && shared.healthy.get() { shared.queue.borrow_mut().next(Lane::Oldest) } else { None };
        let Some(sending) = next else {
            tokio::select! {
                () = notified => {}
                () = recovered => {}
            }
            continue;
        };
        if let Some(wait) = lane.send(sending).await {
            tokio::time::sleep(wait).await;
        }
    }
}

/// Sends what waits until nothing does or nobody answers: for the end of the process.
pub async fn drain(shared: Shared, destination: Destination) {
    let mut lane = Sender::new(shared.clone(), destination);
    loop {
        let next = shared.queue.borrow_mut().next(Lane::Newest);
        let Some(sending) = next else {
            return;
        };
        if lane.send(sending).await.is_some() {
            return;
        }
    }
}

struct Sender {
    shared: Shared,
    destination: Destination,
    client: Client,
    failures: u32,
    last_complaint: Option<(&'static str, u32)>,
    body: Vec<u8>,
}

impl Sender {
    fn new(shared: Shared, destination: Destination) -> Self {
        let client =
            Client::new(destination.endpoint.clone(), Some(destination.tls.clone()), Reach::Trusted, REQUEST_TIMEOUT);
        Sender { shared, destination, client, failures: 0, last_complaint: None, body: Vec::new() }
    }

    /// One attempt; how long to wait when it did not get through.
    async fn send(&mut self, sending: Sending) -> Option<Duration> {
        // Put back whatever happens to this future: it may be dropped in the middle.
        let guard = Returned { shared: &self.shared.clone(), key: sending.key, armed: true };
        let outcome = self.attempt(&sending.batch).await;
        guard.disarm();
        let shared = self.shared.clone();
        let mut queue = shared.queue.borrow_mut();
        let count = |queue: &Queue, result| {
            queue.metrics().sends.get_or_create(&SendResult { result }).inc();
        };
        match outcome {
            Outcome::Acknowledged => {
                count(&queue, "acknowledged");
                queue.metrics().send_blocked.set(0);
                queue.acknowledged(sending.key);
                drop(queue);
                if let Err(error) = shared.ready.borrow_mut().acknowledged() {
                    tracing::error!(error = &error as &dyn std::error::Error, "readiness cannot be said");
                }
                self.answers();
                None
            }
            Outcome::Rejected { status, message } => {
                count(&queue, "rejected");
                queue.rejected(sending.key, &sending.batch, status, &message);
                drop(queue);
                self.answers();
                None
            }
            Outcome::TooLong => {
                count(&queue, "too_long");
                match split(&sending.batch.body) {
                    Some(parts) => queue.replaced(sending.key, parts),
                    None => queue.rejected(sending.key, &sending.batch, 413, "one series is too long for the server"),
                }
                drop(queue);
                self.answers();
                None
            }
            Outcome::Later { after, result, detail, blocked } => {
                count(&queue, result);
                queue.metrics().send_blocked.set(i64::from(blocked));
                queue.returned(sending.key);
                drop(queue);
                shared.healthy.set(false);
                self.failures = self.failures.saturating_add(1);
                let wait = after.map_or_else(
                    || full_jitter(self.failures),
                    |after| after.clamp(LEAST_RETRY_AFTER, LONGEST_RETRY_AFTER),
                );
                self.complain(result, &detail, wait);
                Some(wait)
            }
        }
    }

    /// The server answers: the backlog may go.
    fn answers(&mut self) {
        if self.failures > 0 {
            tracing::info!(after_failures = self.failures, "server takes batches again");
        }
        self.failures = 0;
        self.last_complaint = None;
        if !self.shared.healthy.replace(true) {
            self.shared.recovered.notify_waiters();
        }
    }

    /// Logs a failure when it is new, and then each time the count of failures doubles.
    fn complain(&mut self, result: &'static str, detail: &str, wait: Duration) {
        let next = match self.last_complaint {
            Some((last, at)) if last == result => at,
            _ => self.failures,
        };
        if self.failures >= next {
            tracing::warn!(
                result,
                detail,
                server = self.destination.endpoint.authority(),
                failures = self.failures,
                retry_in_ms = wait.as_millis() as u64,
                "batch not taken, samples are kept"
            );
            self.last_complaint = Some((result, next.max(1).saturating_mul(2)));
        }
    }

    async fn attempt(&mut self, batch: &Batch) -> Outcome {
        let later = |result, detail: String| Outcome::Later { after: None, result, detail, blocked: false };
        let token = match std::fs::read_to_string(&self.destination.token_file) {
            Ok(token) => token,
            Err(error) => {
                let file = self.destination.token_file.display();
                return later("no_token", format!("the token file {file} cannot be read: {error}"));
            }
        };
        let request = match self.request(batch, token.trim()) {
            Ok(request) => request,
            Err(error) => return later("bad_token", format!("the token cannot be sent as a header: {error}")),
        };
        let mut body = std::mem::take(&mut self.body);
        let answer = self.client.send(request, MOST_ANSWER_BYTES, &mut body).await;
        let message = String::from_utf8_lossy(&body).into_owned();
        self.body = body;
        match answer {
            Ok(answer) => judge(&answer, message),
            Err(error) => later(error.reason(), describe(&error)),
        }
    }

    fn request(&self, batch: &Batch, token: &str) -> Result<Request<Bytes>, http::Error> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))?;
        bearer.set_sensitive(true);
        Request::post("/api/v1/write")
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_ENCODING, "snappy")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .header(header::AUTHORIZATION, bearer)
            .header(TARGET_HEADER, self.destination.target.clone())
            .header(CONFIG_HASH_HEADER, self.destination.config_hash.clone())
            .header(BATCH_HEADER, batch.id.to_string())
            .body(batch.body.clone())
    }
}

/// Gives a batch back when the attempt is dropped in the middle.
struct Returned<'s> {
    shared: &'s Shared,
    key: crate::queue::Key,
    armed: bool,
}

impl Returned<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.queue.borrow_mut().returned(self.key);
        }
    }
}

fn judge(answer: &Answer, message: String) -> Outcome {
    let status = answer.status.as_u16();
    let later = |result, blocked| Outcome::Later {
        after: answer.retry_after(),
        result,
        detail: format!("{status} {}", message.trim()),
        blocked,
    };
    match status {
        200..300 => Outcome::Acknowledged,
        401 => later("unauthorized", true),
        403 => later("forbidden", true),
        408 => later("timeout", false),
        413 => Outcome::TooLong,
        429 => later("too_many_requests", false),
        // The server read the body and will never take it. Any other 4xx comes from something that did not (a wrong route, a default back end).
        400 | 415 | 422 => Outcome::Rejected { status, message },
        400..500 => later("refused", true),
        503 => later("unavailable", false),
        _ => later("server_error", false),
    }
}

/// An error and all its causes in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// Cuts a request in two between series; `None` when there is only one, or when it is no request.
fn split(body: &[u8]) -> Option<Vec<(u32, Bytes)>> {
    let whole = snap::raw::Decoder::new().decompress_vec(body).ok()?;
    let ends = ers_wire::series_writer::series_ends(&whole)?;
    if ends.len() < 2 {
        return None;
    }
    let middle = ends.len() / 2;
    let cut = ends[middle - 1];
    let part = |samples: usize, bytes: &[u8]| {
        let compressed = snap::raw::Encoder::new().compress_vec(bytes).ok()?;
        Some((samples as u32, Bytes::from(compressed)))
    };
    Some(vec![part(middle, &whole[..cut])?, part(ends.len() - middle, &whole[cut..])?])
}

/// A random wait between nothing and an exponentially growing bound: after an outage agents must not come all at once.
fn full_jitter(failures: u32) -> Duration {
    let bound = FIRST_BACKOFF.saturating_mul(1_u32 << failures.saturating_sub(1).min(10)).min(LONGEST_BACKOFF);
    let fraction = random() as f64 / u64::MAX as f64;
    bound.mul_f64(fraction)
}

/// Random enough for spreading load: the standard library seeds its hashers from the system.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_their_bound() {
        for failures in [1, 2, 10, 1000] {
            assert!(full_jitter(failures) <= LONGEST_BACKOFF);
        }
        assert!(full_jitter(1) <= FIRST_BACKOFF);
    }

    #[test]
    fn a_request_is_cut_between_series() {
        let mut writer = crate::batch::BatchWriter::default();
        for at in 0..5 {
            writer.sample(b"", f64::from(at), 1);
        }
        let (_, body) = writer.take().remove(0);
        let parts = split(&body).expect("two parts");
        assert_eq!(parts.iter().map(|(samples, _)| *samples).collect::<Vec<u32>>(), [2, 3]);
        let (_, first) = &split(&parts[0].1).expect("two parts")[0];
        assert!(split(first).is_none());
    }
}
