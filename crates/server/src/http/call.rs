//! One request, as handlers see it.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header;
use bytes::Bytes;
use ers_store::{Actor, AuditContext};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::app::App;

pub struct Call {
    pub request: HttpRequest,
    /// Within the route's limit.
    pub body: Bytes,
    pub app: Arc<App>,
    pub request_id: String,
    /// Address of the peer. `X-Forwarded-For` is not believed: anybody can write it.
    pub source_ip: String,
}

impl Call {
    /// The body as JSON; unknown fields are an error of the type that is read.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let content_type = self.header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        if !content_type.to_ascii_lowercase().starts_with("application/json") {
            return Err(ApiError::new(
                actix_web::http::StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UnsupportedMediaType",
                "the body must be application/json",
            ));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            // The text of the error may quote a value, which may be a password: only its place is told.
            let what = match error.classify() {
                serde_json::error::Category::Data => "has a missing, unknown or wrongly typed field",
                _ => "is no JSON",
            };
            ApiError::bad_request(format!("the body {what} (line {}, column {})", error.line(), error.column()))
        })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }

    pub fn path_part(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    /// Where a change by this request comes from.
    pub fn audit(&self, actor: Actor) -> AuditContext {
        AuditContext {
            tenant: self.app.tenant(),
            at_ms: self.app.clock.now_ms(),
            actor,
            request_id: self.request_id.clone(),
            source_ip: self.source_ip.clone(),
            cluster: self.app.config.cluster.clone(),
            region: self.app.config.region.clone().unwrap_or_default(),
        }
    }
}
