//! `GET /metrics` on the metrics port.

use actix_web::HttpResponse;
use ers_auth::Authorized;
use ers_auth::authz::ReadOwnMetrics;
use ers_telemetry::METRICS_CONTENT_TYPE;

use crate::http::{Answer, Call};

pub async fn show(_auth: Authorized<ReadOwnMetrics>, call: Call) -> Answer {
    Ok(HttpResponse::Ok().content_type(METRICS_CONTENT_TYPE).body(call.app.metrics.text()))
}
