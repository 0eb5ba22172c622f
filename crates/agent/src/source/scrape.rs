//! One target that speaks the exposition format over HTTP: fetched, checked against its limits as a whole, shipped.
//!
//! A scrape succeeds or fails as a whole. Over a limit nothing of it is kept: `up` is 0 and `ers_target_failure` names
//! the limit; its series get stale markers, as after any failed scrape.

use crate::batch::BatchWriter;
use crate::host::kind_of;
use crate::http::{Client, HttpError};
use crate::metrics::DropReason;
use crate::sender::{Shared, describe};
use crate::series::{Refusal, SeriesCache};
use crate::target::{Report, Schedule, Scraped, TARGET_LABEL, ship, wait};
use bytes::Bytes;
use ers_model::Labels;
use ers_model::agent_config::ScrapeLimits;
use ers_wire::exposition::{Entry, Format, Kind, Limits, ParseError, Parser, Problem};
use http::{HeaderValue, Request, header};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Text is asked for first: it is what targets make fastest, and exemplars are not stored.
const ACCEPT: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
/// A buffer larger than this is given back to the system after a scrape.
const MOST_KEPT_BYTES: usize = 4 * 1024 * 1024;
const MOST_LINE_BYTES: usize = 64 * 1024;

/// Buffers that scrapes share: few run at the same time, so few are needed.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Rc<RefCell<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() <= MOST_KEPT_BYTES {
            buffer.clear();
            self.0.borrow_mut().push(buffer);
        }
    }
}

/// What is scraped, and how.
#[derive(Debug)]
pub struct HttpTarget {
    pub client: Client,
    pub path: String,
    /// Without `ers_target`, which only the series about the target carry.
    pub labels: Labels,
    /// Whether labels in the body win over those above.
    pub honor_labels: bool,
    /// File with a bearer token to send.
    pub token_file: Option<PathBuf>,
    /// Name of the CollectorTarget.
    pub target: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub limits: ScrapeLimits,
}

/// Why a scrape failed: a word of a closed set, and the whole story for the log.
#[derive(Debug)]
struct Failure {
    reason: &'static str,
    detail: String,
}

/// Scrapes over and over until `stop` says that the target is gone, and then ends its series. When the other half of
/// `stop` is dropped the agent ends, and another one goes on: no markers then.
pub async fn run(mut target: HttpTarget, shared: Shared, buffers: Buffers, mut stop: watch::Receiver<bool>) {
    let clock = shared.queue.borrow().clock().clone();
    let mut about = target.labels.clone();
    about.set(TARGET_LABEL, target.target.as_str());
    let mut report = Report::new(&about);
    let limits = target.limits;
    let mut state = State {
        cache: SeriesCache::new(
            target.labels.clone(),
            target.honor_labels,
            limits.max_series as usize,
            limits.max_labels as usize,
        ),
        told: HashSet::new(),
        out: BatchWriter::default(),
        duplicates: 0,
    };
    let identity = format!("{}{}/{}", target.client.endpoint().authority(), target.path, target.target);
    let schedule = Schedule::new(target.interval, &identity);
    let mut last_reason = None;
    loop {
        let due = tokio::select! {
            due = wait(schedule, &*clock) => due,
            changed = stop.changed() => if changed.is_ok() { break } else { return },
        };
        let stamp = Schedule::stamp(due, clock.now_ms());
        let began = Instant::now();
        let mut body = buffers.take();
        let scrape = scrape(&mut target, &mut state, stamp, &mut body);
        let result = tokio::select! {
            result = scrape => Some(result),
            changed = stop.changed() => if changed.is_ok() { None } else { return },
        };
        buffers.give_back(body);
        let Some(result) = result else {
            state.out.discard();
            break;
        };
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(samples) => {
                let (kept, added) = (samples - state.duplicates, u64::from(state.cache.added()));
                state.cache.end(stamp, &mut state.out);
                report.success(Scraped { seconds, samples, kept, added }, stamp, &mut state.out);
                if last_reason.take().is_some() {
                    tracing::info!(target = identity, "target answers again");
                }
                let queue = shared.queue.borrow();
                queue.count_dropped(DropReason::duplicate, state.duplicates);
            }
            Err(failure) => {
                state.out.discard();
                state.cache.abort(stamp, &mut state.out);
                report.failure(failure.reason, seconds, stamp, &mut state.out);
                if last_reason != Some(failure.reason) {
                    last_reason = Some(failure.reason);
                    tracing::warn!(
                        target = identity,
                        reason = failure.reason,
                        detail = failure.detail,
                        "target cannot be scraped"
                    );
                }
            }
        }
        ship(&shared, &mut state.out);
    }
    let now = clock.now_ms();
    state.cache.end_all(now, &mut state.out);
    report.gone(now, &mut state.out);
    ship(&shared, &mut state.out);
}

struct State {
    cache: SeriesCache,
    /// Families whose type was sent.
    told: HashSet<String>,
    out: BatchWriter,
    /// Series that occurred twice in the last scrape.
    duplicates: u64,
}

async fn scrape(target: &mut HttpTarget, state: &mut State, stamp: i64, body: &mut Vec<u8>) -> Result<u64, Failure> {
    let request = request(target)?;
    let limit = target.limits.max_body_bytes as usize;
    let exchange = target.client.send(request, limit, body);
    let answer = match tokio::time::timeout(target.timeout, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(HttpError::BodyTooLong { limit })) => {
            let detail = format!("the body is longer than maxBodyBytes, {limit}");
            return Err(Failure { reason: "body_too_long", detail });
        }
        Ok(Err(error)) => return Err(Failure { reason: error.reason(), detail: describe(&error) }),
        Err(_) => {
            let detail = format!("no whole answer within timeoutSeconds, {}", target.timeout.as_secs());
            return Err(Failure { reason: "timeout", detail });
        }
    };
    if !answer.status.is_success() {
        let reason = match answer.status.as_u16() {
            401 => "http_401",
            403 => "http_403",
            404 => "http_404",
            429 => "http_429",
            400..500 => "http_4xx",
            500..600 => "http_5xx",
            _ => "http_other",
        };
        let said: String = String::from_utf8_lossy(body).chars().take(200).collect();
        return Err(Failure { reason, detail: format!("{} {said}", answer.status) });
    }
    let format = Format::from_content_type(answer.header("content-type").unwrap_or_default());
    parse(body, format, &target.limits, stamp, state)
}

fn request(target: &HttpTarget) -> Result<Request<Bytes>, Failure> {
    let mut builder = Request::get(target.path.as_str())
        .header(header::ACCEPT, ACCEPT)
        .header(header::ACCEPT_ENCODING, "gzip")
        .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout.as_secs());
    if let Some(file) = &target.token_file {
        let no_token = |detail: String| Failure { reason: "no_token", detail };
        let token = std::fs::read_to_string(file)
            .map_err(|error| no_token(format!("the token file {} cannot be read: {error}", file.display())))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| no_token(format!("the token in {} cannot be sent as a header", file.display())))?;
        bearer.set_sensitive(true);
        builder = builder.header(header::AUTHORIZATION, bearer);
    }
    builder
        .body(Bytes::new())
        .map_err(|error| Failure { reason: "bad_request", detail: format!("the path {:?}: {error}", target.path) })
}

/// Takes a body over; the number of its samples.
fn parse(body: &[u8], format: Format, limits: &ScrapeLimits, stamp: i64, state: &mut State) -> Result<u64, Failure> {
    let bounds = Limits { max_line_bytes: MOST_LINE_BYTES, max_labels: limits.max_labels as usize };
    let mut parser = Parser::new(body, format, bounds).map_err(malformed)?;
    let mut kinds: HashMap<&str, Kind> = HashMap::new();
    let State { cache, told, out, duplicates } = state;
    cache.begin();
    *duplicates = 0;
    let mut samples = 0;
    while let Some(entry) = parser.next_entry().map_err(malformed)? {
        let sample = match entry {
            Entry::Type { name, kind } => {
                kinds.insert(name, kind);
                continue;
            }
            Entry::Sample(sample) => sample,
            Entry::Help { .. } | Entry::Unit { .. } => continue,
        };
        samples += 1;
        let (slot, is_new) = match cache.slot(sample.series) {
            Ok(found) => found,
            Err(Refusal::Duplicate) => {
                *duplicates += 1;
                continue;
            }
            Err(Refusal::TooManySeries) => {
                let detail = format!("more series than maxSeries, {}", limits.max_series);
                return Err(Failure { reason: "too_many_series", detail });
            }
            Err(Refusal::TooManyLabels) => {
                let detail = format!("{}: more labels than maxLabels, {}", sample.series, limits.max_labels);
                return Err(Failure { reason: "too_many_labels", detail });
            }
        };
        if is_new {
            let name = &sample.series[..sample.series.find('{').unwrap_or(sample.series.len())];
            if !told.contains(name) {
                told.insert(name.to_owned());
                out.metadata(name, kind_of(name, &kinds));
            }
        }
        out.sample(cache.labels(slot), sample.value, sample.timestamp_ms.unwrap_or(stamp));
    }
    Ok(samples)
}

fn malformed(error: ParseError) -> Failure {
    let reason = match error.problem {
        Problem::TooManyLabels(_) => "too_many_labels",
        Problem::LineTooLong(_) => "line_too_long",
        _ => "malformed_body",
    };
    Failure { reason, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ScrapeLimits = ScrapeLimits { max_series: 3, max_labels: 2, max_body_bytes: 1000 };

    fn state() -> State {
        State {
            cache: SeriesCache::new(Labels::from_pairs([("job", "j")]), false, 3, 2),
            told: HashSet::new(),
            out: BatchWriter::default(),
            duplicates: 0,
        }
    }

    #[track_caller]
    fn check_failure(body: &str, reason: &str, detail: &str) {
        let failure = parse(body.as_bytes(), Format::Text, &LIMITS, 0, &mut state()).expect_err("must fail");
        assert_eq!(failure.reason, reason);
        assert!(failure.detail.contains(detail), "{}", failure.detail);
    }

    #[test]
    fn failures_have_a_word_and_a_story() {
        check_failure("a 1\nb 2\nc 3\nd 4\n", "too_many_series", "maxSeries, 3");
        check_failure("a{a=\"\",b=\"\",c=\"\"} 1\n", "too_many_labels", "line 1, column 13");
        check_failure("a 1\nb x\n", "malformed_body", "line 2, column 3: expected a number");
    }

    #[test]
    fn duplicates_are_counted_and_the_first_one_is_kept() {
        let mut state = state();
        assert_eq!(parse(b"a 1\na 2\nb 1 77\n", Format::Text, &LIMITS, 5, &mut state).expect("parsed"), 3);
        assert_eq!((state.duplicates, state.out.samples()), (1, 2));
    }
}
