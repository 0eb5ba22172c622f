//! `query` and `query_range`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use ers_auth::Authorized;
use ers_auth::authz::ReadMetrics;
use ers_model::Labels;
use ers_promql::{Engine, Interrupt, LabelMatcher, QueryError, QueryResult, QueryValue, Stop, parse};

use tokio::sync::OwnedSemaphorePermit;

use super::answer::{self, Body};
use super::number::{write_string, write_time, write_value};
use super::params::{Params as _, Steps, bad_data};
use crate::app::App;
use crate::http::page::accepts_gzip;
use crate::http::{Answer, ApiError, Call};
use crate::query_string::QueryString;

/// What the caller may see at most: bound to every read. Nothing is narrowed yet; whoever may read metrics reads all of this policy's.
pub fn enforced(_auth: &Authorized<ReadMetrics>) -> Vec<LabelMatcher> {
    Vec::new()
}

#[derive(Clone, Copy)]
enum When {
    At(i64),
    Steps(Steps),
}

pub async fn instant(auth: Authorized<ReadMetrics>, call: Call) -> Answer {
    let query = QueryString::with_form(&call)?;
    let at_ms = query.time("time")?.unwrap_or_else(|| call.app.clock.now_ms());
    run(&auth, &call, &query, When::At(at_ms)).await
}

pub async fn range(auth: Authorized<ReadMetrics>, call: Call) -> Answer {
    let query = QueryString::with_form(&call)?;
    let steps = Steps::read(&query)?;
    run(&auth, &call, &query, When::Steps(steps)).await
}

/// Sets the flag when it is dropped: when the answer is there, or when the caller went away and the future was dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn run(auth: &Authorized<ReadMetrics>, call: &Call, query: &QueryString, when: When) -> Answer {
    let app = call.app.clone();
    let limit = query.most("limit")?;
    let most = Duration::from_secs(u64::from(app.config.limits.query_timeout_seconds));
    let timeout =
        query.span("timeout")?.map_or(most, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(most));
    let deadline = Instant::now() + timeout;
    let lookback_ms = query.span("lookback_delta")?.filter(|ms| *ms > 0);
    let text = query.get("query").unwrap_or_default();
    let expr = parse(text).map_err(|error| bad_data(format!("invalid parameter \"query\": {error}")))?;

    let permit = turn(&app, timeout).await?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let guard = CancelOnDrop(cancelled.clone());
    let engine = engine(&app, lookback_ms, deadline, cancelled);
    let reader = app.samples.db().reader(enforced(auth));
    let metrics = app.metrics.clone();
    let answered = answer::blocking(accepts_gzip(call), move |body| {
        let _permit = permit;
        let began = Instant::now();
        metrics.queries_running.inc();
        let evaluated = match when {
            When::At(at_ms) => engine.instant(&expr, &reader, at_ms),
            When::Steps(Steps { start_ms, end_ms, step_ms }) => engine.range(&expr, &reader, start_ms, end_ms, step_ms),
        };
        metrics.queries_running.dec();
        metrics.query_seconds.observe(began.elapsed().as_secs_f64());
        metrics.query(match &evaluated {
            Ok(_) => "success",
            Err(QueryError::Timeout) => "timeout",
            Err(QueryError::Cancelled) => "cancelled",
            Err(_) => "error",
        });
        let result = evaluated.map_err(|error| failed(&error))?;
        // An error here means that the caller is gone.
        write_result(body, &result, limit).map_err(|_| failed(&QueryError::Cancelled))
    })
    .await;
    drop(guard);
    answered
}

/// Waits for a place among the queries that run at once. Every reader of the store takes one: they share its memory and the blocking threads.
pub(super) async fn turn(app: &App, timeout: Duration) -> Result<OwnedSemaphorePermit, ApiError> {
    match tokio::time::timeout(timeout, app.queries.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(ApiError::unavailable("unavailable", "the server stops")),
        Err(_) => {
            app.metrics.query("queue_timeout");
            Err(failed(&QueryError::Timeout))
        }
    }
}

fn engine(app: &App, lookback_ms: Option<i64>, deadline: Instant, cancelled: Arc<AtomicBool>) -> Engine {
    let interrupt: Interrupt = Arc::new(move || {
        if cancelled.load(Ordering::Relaxed) {
            Some(Stop::Cancelled)
        } else if Instant::now() >= deadline {
            Some(Stop::Timeout)
        } else {
            None
        }
    });
    let mut engine = Engine {
        max_samples: usize::try_from(app.config.limits.max_query_samples.min(app.max_query_samples))
            .unwrap_or(usize::MAX),
        interrupt: Some(interrupt),
        ..Engine::default()
    };
    if let Some(lookback_ms) = lookback_ms {
        engine.lookback_ms = lookback_ms;
    }
    engine
}

/// Prometheus' status and type for each failure.
fn failed(error: &QueryError) -> ApiError {
    let (status, kind) = match error {
        QueryError::Execution(_) | QueryError::TooManySamples => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        QueryError::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
        QueryError::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
        QueryError::Source(ers_promql::SourceError::TooManySamples) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        QueryError::Source(source) => {
            tracing::error!(error = source as &dyn std::error::Error, "stored samples could not be read");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        }
    };
    let message = match error {
        QueryError::Source(ers_promql::SourceError::TooManySamples) => QueryError::TooManySamples.to_string(),
        other => other.to_string(),
    };
    ApiError::new(status, kind, message)
}

const TRUNCATED: &str = "results truncated due to limit";

fn write_result(out: &mut Body, result: &QueryResult, limit: usize) -> io::Result<()> {
    let kind = match &result.value {
        QueryValue::Scalar(_) => "scalar",
        QueryValue::String { .. } => "string",
        QueryValue::Vector { .. } => "vector",
        QueryValue::Matrix(_) => "matrix",
    };
    write!(out, r#"{{"status":"success","data":{{"resultType":"{kind}","result":"#)?;
    let mut truncated = false;
    match &result.value {
        QueryValue::Scalar(point) => write_pair(out, point.timestamp_ms, |out| write_value(out, point.value))?,
        QueryValue::String { timestamp_ms, value } => write_pair(out, *timestamp_ms, |out| write_string(out, value))?,
        QueryValue::Vector { timestamp_ms, samples } => {
            truncated = samples.len() > limit;
            write_list(out, samples.iter().take(limit), |out, sample| {
                write_metric(out, &sample.labels)?;
                out.write_all(br#","value":"#)?;
                write_pair(out, *timestamp_ms, |out| write_value(out, sample.value))?;
                out.write_all(b"}")
            })?;
        }
        QueryValue::Matrix(series) => {
            truncated = series.len() > limit;
            write_list(out, series.iter().take(limit), |out, one| {
                write_metric(out, &one.labels)?;
                out.write_all(br#","values":"#)?;
                write_list(out, one.floats.iter(), |out, point| {
                    write_pair(out, point.timestamp_ms, |out| write_value(out, point.value))
                })?;
                out.write_all(b"}")
            })?;
        }
    }
    out.write_all(b"}")?;
    let mut warnings = result.warnings.clone();
    if truncated {
        warnings.push(TRUNCATED.to_owned());
    }
    for (name, remarks) in [("warnings", &warnings), ("infos", &result.infos)] {
        if !remarks.is_empty() {
            write!(out, r#","{name}":"#)?;
            write_list(out, remarks.iter(), |out, remark| write_string(out, remark))?;
        }
    }
    out.write_all(b"}")
}

fn write_list<T>(
    out: &mut Body,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Body, T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        write(out, item)?;
    }
    out.write_all(b"]")
}

fn write_pair(out: &mut Body, at_ms: i64, value: impl FnOnce(&mut Body) -> io::Result<()>) -> io::Result<()> {
    out.write_all(b"[")?;
    write_time(out, at_ms)?;
    out.write_all(b",")?;
    value(out)?;
    out.write_all(b"]")
}

fn write_metric(out: &mut Body, labels: &Labels) -> io::Result<()> {
    out.write_all(br#"{"metric":"#)?;
    write_labels(out, labels)
}

pub fn write_labels(out: &mut impl Write, labels: &Labels) -> io::Result<()> {
    out.write_all(b"{")?;
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        write_string(out, name)?;
        out.write_all(b":")?;
        write_string(out, value)?;
    }
    out.write_all(b"}")
}
