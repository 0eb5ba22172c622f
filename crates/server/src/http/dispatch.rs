//! From a raw request to a handler: request id, method, credential, permission, body, in this order; then the answer's headers, one log line, one count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{FromRequest as _, HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use ers_auth::session::SessionSecret;
use ers_auth::{AuthError, Principal};
use futures::StreamExt as _;
use uuid::Uuid;

use super::call::Call;
use super::error::{ApiError, Dialect};
use super::headers;
use super::table::{AnswerFuture, Handler, Listener, Route};
use crate::app::App;

pub const SESSION_COOKIE: &str = "__Host-ers-session";
pub const CSRF_HEADER: &str = "X-CSRF-Token";
pub const REQUEST_ID_HEADER: &str = "X-Request-Id";

/// A body must have come within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// So much of a body that is too large is still read and thrown away, so that the sender gets to see the answer.
const DRAIN_FACTOR: usize = 4;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Registers all routes of one listener.
pub fn configure(routes: &Arc<Vec<Route>>, listener: Listener, app: &Arc<App>, service: &mut web::ServiceConfig) {
    let mut by_path: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
    for (at, route) in routes.iter().enumerate().filter(|(_, route)| route.listener == listener) {
        by_path.entry(route.path).or_default().push(at);
    }
    for (path, at) in by_path {
        let (routes, app, at) = (routes.clone(), app.clone(), Arc::new(at));
        service.service(web::resource(path).to(move |request: HttpRequest, payload: web::Payload| {
            let (routes, app, at) = (routes.clone(), app.clone(), at.clone());
            async move { answer(&routes, &at, app, request, payload).await }
        }));
    }
    let app = app.clone();
    service.default_service(web::to(move |request: HttpRequest| {
        let app = app.clone();
        async move { nothing_here(&app, &request) }
    }));
}

fn nothing_here(app: &App, request: &HttpRequest) -> HttpResponse {
    let request_id = request_id(request);
    let dialect = if request.path().starts_with("/api/") {
        Dialect::Prometheus
    } else if request.path().starts_with("/ers/") {
        Dialect::Ers
    } else {
        Dialect::Plain
    };
    let mut response = ApiError::not_found("there is nothing at this address").into_response(dialect, &request_id);
    headers::apply(response.headers_mut(), &request_id);
    app.metrics.request("none", "other", 404, 0.0);
    response
}

async fn answer(
    routes: &[Route],
    at: &[usize],
    app: Arc<App>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let began = Instant::now();
    let request_id = request_id(&request);
    let wanted = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let Some(route) = at.iter().map(|at| &routes[*at]).find(|route| route.method == *wanted) else {
        let allowed: Vec<&str> = at.iter().map(|at| routes[*at].method.as_str()).collect();
        let allowed = allowed.join(", ");
        let error = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            format!("{} is not possible here, use {allowed}", request.method()),
        );
        let first = &routes[at[0]];
        let mut response = error.into_response(first.dialect, &request_id);
        if let Ok(value) = header::HeaderValue::from_str(&allowed) {
            response.headers_mut().insert(header::ALLOW, value);
        }
        headers::apply(response.headers_mut(), &request_id);
        app.metrics.request(first.path, "other", 405, began.elapsed().as_secs_f64());
        return response;
    };
    let source_ip = request.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
    let mut actor = String::new();
    let call = Call { request, body: Bytes::new(), app: app.clone(), request_id: request_id.clone(), source_ip };
    let method = call.request.method().clone();
    let peer = call.source_ip.clone();
    let outcome = handle(route, call, payload, &mut actor).await;
    let (mut response, code) = match outcome {
        Ok(response) => (response, None),
        Err(error) => {
            let code = error.code;
            (error.into_response(route.dialect, &request_id), Some(code))
        }
    };
    headers::apply(response.headers_mut(), &request_id);
    let status = response.status().as_u16();
    let seconds = began.elapsed().as_secs_f64();
    app.metrics.request(route.path, method_label(&method), status, seconds);
    log(route, &method, status, seconds, code, &actor, &peer, &request_id);
    response
}

#[expect(clippy::too_many_arguments, reason = "the fields of one log line")]
fn log(
    route: &Route,
    method: &Method,
    status: u16,
    seconds: f64,
    code: Option<&str>,
    actor: &str,
    peer: &str,
    request_id: &str,
) {
    let milliseconds = (seconds * 1_000_000.0).round() / 1_000.0;
    let (path, method) = (route.path, method.as_str());
    // "Come later" to a hundred agents is said once where it begins, and counted; not here a hundred times.
    let come_later = status == 429 || status == 503;
    if route.logged || (status >= 400 && !come_later) {
        tracing::info!(method, path, status, milliseconds, code, actor, peer, request_id, "request answered");
    } else {
        tracing::debug!(method, path, status, milliseconds, code, actor, peer, request_id, "request answered");
    }
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

/// The caller's id if it gave a harmless one, so that a trace goes through several programs; otherwise a new one.
fn request_id(request: &HttpRequest) -> String {
    let given = request.headers().get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
    let harmless =
        |id: &&str| (8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    given.filter(harmless).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

async fn handle(
    route: &Route,
    mut call: Call,
    payload: web::Payload,
    actor: &mut String,
) -> Result<HttpResponse, ApiError> {
    let mut stream = payload.into_inner();
    match &route.handler {
        Handler::Public(handler) => {
            call.body = read_body(&call.request, &mut stream, route.body_limit).await?;
            handler(call).await
        }
        Handler::Guarded(handler) => {
            let principal = authenticate(&call).await?;
            principal.actor().name.clone_into(actor);
            // The permission is checked before the body is read: a stranger's megabytes are not taken in. (The handler's proof checks it again.)
            if let Some(permission) = route.permission {
                ers_auth::authz::permitted(&principal, permission)?;
            }
            call.body = read_body(&call.request, &mut stream, route.body_limit).await?;
            let future: AnswerFuture = handler(principal, call)?;
            future.await
        }
        Handler::Socket(handler) => {
            let principal = authenticate(&call).await?;
            principal.actor().name.clone_into(actor);
            let payload = web::Payload::from_request(&call.request, &mut stream)
                .await
                .map_err(|_| ApiError::bad_request("the stream cannot be read"))?;
            handler(principal, call, payload)?.await
        }
    }
}

async fn authenticate(call: &Call) -> Result<Principal, ApiError> {
    if let Some(text) = call.header(header::AUTHORIZATION.as_str()) {
        let bearer = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = bearer else {
            return Err(AuthError::Unauthenticated("the Authorization header must be of type Bearer").into());
        };
        return Ok(call.app.auth.bearer(token.trim()).await?);
    }
    let Some(cookie) = session_cookie(call) else {
        return Err(AuthError::Unauthenticated("no session and no token").into());
    };
    let logged_in = call.app.auth.session(&cookie).await?;
    let method = call.request.method();
    if method != Method::GET && method != Method::HEAD {
        let presented = call.header(CSRF_HEADER).unwrap_or_default();
        if !cookie.csrf_matches(presented) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "CsrfTokenInvalid",
                format!("a request with a session needs the header {CSRF_HEADER} with the session's token"),
            ));
        }
    }
    Ok(logged_in.principal())
}

/// The session's secret, if a well-formed one was sent.
pub fn session_cookie(call: &Call) -> Option<SessionSecret> {
    let cookie = call.request.cookie(SESSION_COOKIE)?;
    SessionSecret::parse(cookie.value())
}

async fn read_body(request: &HttpRequest, stream: &mut Payload, limit: usize) -> Result<Bytes, ApiError> {
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let too_large = || ApiError::too_large(format!("the body is larger than {limit} bytes"));
    if announced.is_some_and(|length| length > limit as u64) {
        drain(stream, limit.saturating_mul(DRAIN_FACTOR)).await;
        return Err(too_large());
    }
    // Allocates what has come, not what was announced.
    let mut body = BytesMut::new();
    let read = async {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| ApiError::bad_request("the body could not be read to its end"))?;
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(())) => Ok(body.freeze()),
        Ok(Err(error)) => {
            if error.status == StatusCode::PAYLOAD_TOO_LARGE {
                drain(stream, limit.saturating_mul(DRAIN_FACTOR)).await;
            }
            Err(error)
        }
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "BodyTimeout",
            format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

async fn drain(stream: &mut Payload, most: usize) {
    let mut left = most;
    let drained = async {
        while let Some(Ok(chunk)) = stream.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    // Whether it came to an end or not, the answer is the same.
    drop(tokio::time::timeout(DRAIN_TIMEOUT, drained).await);
}
