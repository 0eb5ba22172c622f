//! `POST /api/v1/write`: remote write 1.0, answered when it is durable.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use ers_auth::authz::WriteMetrics;
use ers_auth::{AgentIdentity, Authorized, Principal};
use ers_model::names;
use ers_tsdb::{AppendError, AppendOutcome};
use ers_wire::remote_write::{CONTENT_ENCODING, CONTENT_TYPE, DecodeError};

use super::params::bad_data;
use crate::app::App;
use crate::http::{Answer, ApiError, Call};
use crate::objects::TargetScope;
use crate::samples::WriteBudget;

/// A request waits so long for memory to be decoded in; then the sender is asked to come later.
const BUDGET_WAIT: Duration = Duration::from_secs(2);

pub async fn receive(auth: Authorized<WriteMetrics>, call: Call) -> Answer {
    let began = Instant::now();
    let app = call.app.clone();
    match store(&auth, &call).await {
        Ok(outcome) => {
            app.metrics.write_samples.inc_by(outcome.accepted);
            app.metrics.write_bytes.inc_by(call.body.len() as u64);
            app.metrics.write_seconds.observe(began.elapsed().as_secs_f64());
            if let Principal::Agent(agent) = auth.principal()
                && let Some(hash) = call.header(names::CONFIG_HASH_HEADER)
            {
                app.agents.acknowledged(agent.target(), hash);
            }
            judge(&app, &outcome)?;
            Ok(HttpResponse::NoContent().finish())
        }
        Err(error) => {
            app.metrics.write_refused(reason(&error));
            Err(error)
        }
    }
}

fn reason(error: &ApiError) -> &'static str {
    match error.status.as_u16() {
        400 | 415 => "malformed",
        403 => "foreign_target",
        413 => "too_large",
        429 => "overloaded",
        503 => "unavailable",
        _ => "failed",
    }
}

async fn store(auth: &Authorized<WriteMetrics>, call: &Call) -> Result<AppendOutcome, ApiError> {
    check_headers(call)?;
    let app = call.app.clone();
    let labels = enforced_labels(auth.principal(), call)?;
    app.samples.refuse_when_full()?;
    let decoded = decoded_bytes(&call.body)?;
    let most = u64::from(app.config.limits.max_write_decoded_bytes);
    if decoded > most {
        return Err(ApiError::too_large(format!(
            "the body would be {decoded} bytes decompressed, over the limit of {most}"
        )));
    }
    let budget = budget(&app.samples.budget, decoded).await?;
    let (db, body, recv_ms) = (app.samples.db().clone(), call.body.clone(), app.clock.now_ms());
    let appended = tokio::task::spawn_blocking(move || {
        let _budget = budget;
        let enforced: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        db.append_remote_write(&enforced, &body, recv_ms)
    });
    let appended = appended.await.map_err(|error| ApiError::internal(&error))?;
    appended.map_err(|error| refused(&app, &error))
}

fn check_headers(call: &Call) -> Result<(), ApiError> {
    let unsupported = |message: String| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", message);
    // As Prometheus: what is not said is taken for version 1.0.
    let encoding = call.header("Content-Encoding").unwrap_or(CONTENT_ENCODING);
    if !encoding.eq_ignore_ascii_case(CONTENT_ENCODING) {
        return Err(unsupported(format!("content encoding {encoding:?} is not supported, use {CONTENT_ENCODING}")));
    }
    let content_type = call.header("Content-Type").unwrap_or(CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let message = parts.find_map(|part| part.strip_prefix("proto="));
    if !media.eq_ignore_ascii_case(CONTENT_TYPE) || message.is_some_and(|name| name != "prometheus.WriteRequest") {
        return Err(unsupported(format!(
            "content type {content_type:?} is not supported, use {CONTENT_TYPE} (remote write 1.0)"
        )));
    }
    Ok(())
}

/// Labels that the sender has no say in.
fn enforced_labels(principal: &Principal, call: &Call) -> Result<Vec<(&'static str, String)>, ApiError> {
    let app = &call.app;
    let mut labels = vec![("cluster", app.config.cluster.clone())];
    if let Some(region) = &app.config.region {
        labels.push(("region", region.clone()));
    }
    let Principal::Agent(agent) = principal else { return Ok(labels) };
    if let Some(named) = call.header(names::TARGET_HEADER)
        && named != agent.target()
    {
        let message = format!("the credential belongs to the agents of {:?}, not of {named:?}", agent.target());
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message));
    }
    match app.objects.scope_of(agent.target()) {
        // A target that was just made may reach its agents before it reaches us: they keep their samples.
        None => Err(ApiError::unavailable(
            "TargetUnknown",
            format!("CollectorTarget {:?} is not known here yet", agent.target()),
        )),
        Some(TargetScope::Pods) => Ok(labels),
        Some(TargetScope::Node) => {
            let node = node_of(agent)?;
            labels.push(("node", node.to_owned()));
            labels.push(("instance", node.to_owned()));
            Ok(labels)
        }
    }
}

fn node_of(agent: &AgentIdentity) -> Result<&str, ApiError> {
    agent.node().ok_or_else(|| {
        ApiError::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            "the token does not say on which node its pod runs; it must be a projected token of a pod, from Kubernetes 1.29 or newer",
        )
    })
}

/// The size that a snappy block says it has: its first bytes, as a varint.
fn decoded_bytes(body: &[u8]) -> Result<u64, ApiError> {
    let length =
        snap::raw::decompress_len(body).map_err(|error| bad_data(format!("body is not a snappy block: {error}")))?;
    Ok(length as u64)
}

async fn budget(budget: &WriteBudget, bytes: u64) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
    let permit = tokio::time::timeout(BUDGET_WAIT, budget.take(bytes)).await;
    permit.ok().flatten().ok_or_else(|| ApiError {
        retry_after: Some(Duration::from_secs(1)),
        ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "Overloaded", "too many bytes are being decoded at this moment")
    })
}

fn refused(app: &App, error: &AppendError) -> ApiError {
    match error {
        AppendError::Malformed(DecodeError::TooLarge { .. })
        | AppendError::TooManySamples { .. }
        | AppendError::TooLarge { .. } => ApiError::too_large(error.to_string()),
        AppendError::Malformed(malformed) => bad_data(malformed.to_string()),
        AppendError::Storage(storage) => app.samples.failed(storage),
    }
}

/// Whatever was not stored makes the answer a 400 that says so: the rest of the request is stored and durable.
fn judge(app: &App, outcome: &AppendOutcome) -> Result<(), ApiError> {
    let mut lost = Vec::new();
    if let Some(limit) = &outcome.limit {
        app.metrics.write_refused("limit");
        let (samples, series) = (outcome.refused_samples, outcome.refused_series);
        lost.push(format!("{samples} samples of {series} series over a limit, the first: {limit}"));
    }
    for (count, what, reason) in [
        (outcome.conflicts, "duplicate sample for timestamp with another value", "conflict"),
        (outcome.too_old, "out of bounds: older than what is still taken", "too_old"),
        (outcome.too_new, "out of bounds: too far in the future", "too_new"),
        (outcome.histograms_dropped, "native histograms, which are not stored yet", "histograms"),
    ] {
        if count > 0 {
            app.metrics.write_refused(reason);
            lost.push(format!("{count} samples: {what}"));
        }
    }
    if lost.is_empty() { Ok(()) } else { Err(bad_data(format!("partly stored; not stored: {}", lost.join("; ")))) }
}
