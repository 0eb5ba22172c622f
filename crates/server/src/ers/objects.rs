//! The policy and its targets, and the first picture of the page.

use std::time::Duration;

use actix_web::HttpResponse;
use ers_auth::Authorized;
use ers_auth::authz::ReadObjects;
use serde_json::json;

use crate::http::{Answer, ApiError, Call};
use crate::objects::summary;

/// A picture of this age is new enough for whoever opens the page.
const FRESH: Duration = Duration::from_secs(2);

pub async fn list(_auth: Authorized<ReadObjects>, call: Call) -> Answer {
    let items = summary::detailed(&call.app, &call.app.objects.picture());
    Ok(HttpResponse::Ok().json(json!({"items": items})))
}

pub async fn overview(_auth: Authorized<ReadObjects>, call: Call) -> Answer {
    let snapshot = call.app.overviews.get(&call.app, FRESH).await.map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(snapshot.json.to_string()))
}
