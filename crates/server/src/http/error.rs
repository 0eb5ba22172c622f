//! What a caller is told when something goes wrong, in the two shapes that the API speaks.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use ers_auth::{AuthError, Denied};
use ers_store::StoreError;
use serde_json::json;

/// Which shape the errors of a route have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error": {"code", "message", "field"}, "requestId"}`
    Ers,
    /// `{"status": "error", "errorType", "error"}`
    Prometheus,
    /// A line of text.
    Plain,
}

/// Seconds after which a caller may ask again when nothing better is known.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);

/// An answer that is no success. The message is for the caller; what only we should know is logged where the error is made.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// CamelCase, for programs; Prometheus' `errorType` in its dialect.
    pub code: &'static str,
    pub message: String,
    /// The field of the request that is at fault.
    pub field: Option<&'static str>,
    pub retry_after: Option<Duration>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        ApiError { status, code, message: message.into(), field: None, retry_after: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        ApiError { field: Some(field), ..ApiError::new(StatusCode::BAD_REQUEST, "Invalid", message) }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message)
    }

    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        ApiError { retry_after: Some(DEFAULT_RETRY), ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// A failure of ours. `error` goes to the log, with the request's id; the caller gets the id only.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "request failed");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal",
            "the server failed; its log says why under this request's id",
        )
    }

    pub fn into_response(self, dialect: Dialect, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(wait) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, wait.as_secs().max(1).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"ers\""));
        }
        match dialect {
            Dialect::Ers => {
                let mut error = json!({"code": self.code, "message": self.message});
                if let Some(field) = self.field {
                    error["field"] = json!(field);
                }
                response.json(json!({"error": error, "requestId": request_id}))
            }
            Dialect::Prometheus => {
                response.json(json!({"status": "error", "errorType": self.prometheus_type(), "error": self.message}))
            }
            Dialect::Plain => response.content_type("text/plain; charset=utf-8").body(format!("{}\n", self.message)),
        }
    }

    /// Prometheus knows few types of errors; its own are made with their names already.
    fn prometheus_type(&self) -> &'static str {
        match self.code {
            "bad_data" | "execution" | "timeout" | "canceled" | "internal" | "unavailable" | "not_found" => self.code,
            "Unauthenticated" | "InvalidCredentials" => "unauthorized",
            "Forbidden" => "forbidden",
            "NotFound" => "not_found",
            _ => match self.status.as_u16() {
                400 | 405 | 408 | 413 | 415 => "bad_data",
                429 => "too_many_requests",
                503 => "unavailable",
                _ => "internal",
            },
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthenticated(reason) => ApiError::new(StatusCode::UNAUTHORIZED, "Unauthenticated", reason),
            AuthError::InvalidCredentials => {
                ApiError::new(StatusCode::UNAUTHORIZED, "InvalidCredentials", "wrong user name or password")
            }
            AuthError::RateLimited { retry_after_seconds } => ApiError {
                retry_after: Some(Duration::from_secs(retry_after_seconds)),
                ..ApiError::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "RateLimited",
                    format!("too many failed log-ins, try again in {retry_after_seconds} s"),
                )
            },
            AuthError::Unavailable(why) => {
                tracing::warn!(reason = why, "a credential could not be judged");
                ApiError::unavailable(
                    "AuthenticationUnavailable",
                    format!("the credential could not be judged now: {why}"),
                )
            }
            AuthError::Password(error) => {
                if error == ers_auth::password::PasswordError::Hash {
                    return ApiError::internal(&error);
                }
                ApiError::field("new", error.to_string())
            }
            AuthError::Store(error @ (StoreError::Exists { .. } | StoreError::Full { .. })) => error.into(),
            // Nobody was judged: an agent must keep what it has, and come again.
            AuthError::Store(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the state store failed while a credential was judged"
                );
                ApiError::unavailable("AuthenticationUnavailable", "the credential could not be judged now")
            }
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let message = format!("{:?} of {:?} is not permitted to this caller", denied.action, denied.resource);
        ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Exists { .. } => ApiError::new(StatusCode::CONFLICT, "Exists", error.to_string()),
            StoreError::Full { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "the state store is full");
                ApiError::unavailable("StorageFull", "the server's disk is full")
            }
            _ => ApiError::internal(&error),
        }
    }
}
