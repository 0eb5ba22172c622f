//! `metadata` and `status/buildinfo`.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use ers_auth::Authorized;
use ers_auth::authz::ReadMetrics;
use serde_json::{Value, json};

use super::params::Params as _;
use crate::http::{Answer, ApiError, Call};
use crate::query_string::QueryString;

/// The version of Prometheus whose API this one follows: clients such as Grafana switch features by it. Ours comes behind the plus sign.
const SPOKEN: &str = concat!("3.0.0+ers.", env!("CARGO_PKG_VERSION"));

pub async fn metadata(_auth: Authorized<ReadMetrics>, call: Call) -> Answer {
    let query = QueryString::of(&call)?;
    let (limit, per_metric) = (query.most("limit")?, query.most("limit_per_metric")?);
    let metric = query.get("metric").map(str::to_owned);
    let db = call.app.samples.db().clone();
    let entries = tokio::task::spawn_blocking(move || db.metadata(metric.as_deref(), limit)).await;
    let entries = entries.map_err(|error| ApiError::internal(&error))?;
    let mut data: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in entries {
        let listed = data.entry(entry.metric).or_default();
        if listed.len() < per_metric {
            listed.push(json!({"type": entry.kind.as_str(), "help": entry.help, "unit": entry.unit}));
        }
    }
    Ok(HttpResponse::Ok().json(json!({"status": "success", "data": data})))
}

pub async fn build_info(_auth: Authorized<ReadMetrics>, _call: Call) -> Answer {
    Ok(HttpResponse::Ok().json(json!({
        "status": "success",
        "data": {"version": SPOKEN, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "", "application": "Enterprise Reporting System"},
    })))
}
