//! The one route table. A route can only be made with a permission or as public, and a handler with a permission receives the proof of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::{HttpResponse, web};
use ers_auth::{Authorized, Permission, Permit, Principal};

use super::call::Call;
use super::error::{ApiError, Dialect};

pub type Answer = Result<HttpResponse, ApiError>;
pub type AnswerFuture = Pin<Box<dyn Future<Output = Answer>>>;

/// Where a route is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// 8443
    Main,
    /// 9443
    Metrics,
}

/// Largest body of a route that has no use for one: enough for a client that sends an empty form.
pub const SMALL_BODY: usize = 4 * 1024;
/// Bodies of `/ers/v1`.
pub const JSON_BODY: usize = 64 * 1024;
/// Forms with queries.
pub const FORM_BODY: usize = 1024 * 1024;

pub enum Handler {
    Public(Arc<dyn Fn(Call) -> AnswerFuture + Send + Sync>),
    /// The principal was authenticated; the closure checks the permission and calls on.
    Guarded(Arc<dyn Fn(Principal, Call) -> Result<AnswerFuture, ApiError> + Send + Sync>),
    /// As `Guarded`, with the raw stream instead of a body.
    Socket(Arc<dyn Fn(Principal, Call, web::Payload) -> Result<AnswerFuture, ApiError> + Send + Sync>),
}

pub struct Route {
    pub method: Method,
    /// actix-web's notation; also the label of the route in metrics and logs.
    pub path: &'static str,
    /// None: everybody.
    pub permission: Option<Permission>,
    pub listener: Listener,
    pub dialect: Dialect,
    /// Most bytes of a body.
    pub body_limit: usize,
    /// Whether a success is worth a line in the log at level info; otherwise it is debug.
    pub logged: bool,
    /// One line for the description of the API.
    pub summary: &'static str,
    /// Content types of the body, empty if it has none.
    pub accepts: &'static [&'static str],
    pub handler: Handler,
}

impl Route {
    fn new(method: Method, path: &'static str, permission: Option<Permission>, handler: Handler) -> Self {
        let dialect = if path.starts_with("/api/") {
            Dialect::Prometheus
        } else if path.starts_with("/ers/") {
            Dialect::Ers
        } else {
            Dialect::Plain
        };
        Route {
            method,
            path,
            permission,
            listener: Listener::Main,
            dialect,
            body_limit: SMALL_BODY,
            logged: true,
            summary: "",
            accepts: &[],
            handler,
        }
    }

    /// For everybody; the handler must not need to know who calls.
    pub fn public<F, Fut>(method: Method, path: &'static str, handler: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + 'static,
    {
        Route::new(method, path, None, Handler::Public(Arc::new(move |call| Box::pin(handler(call)))))
    }

    /// For whoever has the permission `A`.
    pub fn guarded<A, F, Fut>(method: Method, path: &'static str, handler: F) -> Self
    where
        A: Permit,
        F: Fn(Authorized<A>, Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + 'static,
    {
        let guarded = move |principal, call| -> Result<AnswerFuture, ApiError> {
            let authorized = Authorized::<A>::check(principal)?;
            Ok(Box::pin(handler(authorized, call)))
        };
        Route::new(method, path, Some(A::PERMISSION), Handler::Guarded(Arc::new(guarded)))
    }

    /// A WebSocket for whoever has the permission `A`.
    pub fn socket<A, F, Fut>(path: &'static str, handler: F) -> Self
    where
        A: Permit,
        F: Fn(Authorized<A>, Call, web::Payload) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + 'static,
    {
        let guarded = move |principal, call, payload| -> Result<AnswerFuture, ApiError> {
            let authorized = Authorized::<A>::check(principal)?;
            Ok(Box::pin(handler(authorized, call, payload)))
        };
        Route::new(Method::GET, path, Some(A::PERMISSION), Handler::Socket(Arc::new(guarded)))
    }

    pub fn on(mut self, listener: Listener) -> Self {
        self.listener = listener;
        self
    }

    pub fn body(mut self, limit: usize, accepts: &'static [&'static str]) -> Self {
        self.body_limit = limit;
        self.accepts = accepts;
        self
    }

    pub fn quiet(mut self) -> Self {
        self.logged = false;
        self
    }

    pub fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }
}
