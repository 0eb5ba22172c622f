//! Headers of every answer.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Of the page: nothing from elsewhere, nothing inline.
pub const PAGE_POLICY: &str = "default-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Of data: it is never a document.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
/// Two years; browsers ignore it for addresses without a name and for certificates that they don't trust.
const STRICT_TRANSPORT: &str = "max-age=63072000";

/// Adds what is not there yet.
pub fn apply(headers: &mut HeaderMap, request_id: &str) {
    let fixed: [(HeaderName, &'static str); 7] = [
        (header::CONTENT_SECURITY_POLICY, DATA_POLICY),
        (header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
}
