//! Every request to the API server passes here: it is counted by verb, and a write goes on only under the lease.
//!
//! Sitting below the client, the gate cannot be forgotten by a controller. Token and access reviews are questions in
//! the form of a create; they pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use crate::lease::{Handle, WRITE_TIMEOUT};

/// Longest wait for the answer's head of a question; a watch has answered by then, only its body goes on.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("not written: the lease is not held for long enough")]
    NoLease,
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// What a request asks of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    Review,
}

impl Verb {
    pub const ALL: [Verb; 7] =
        [Verb::Get, Verb::Watch, Verb::Create, Verb::Update, Verb::Patch, Verb::Delete, Verb::Review];

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::Review => "review",
        }
    }

    fn is_write(self) -> bool {
        matches!(self, Verb::Create | Verb::Update | Verb::Patch | Verb::Delete)
    }

    fn of<B>(request: &Request<B>) -> Verb {
        let review = |path: &str| path.ends_with("/tokenreviews") || path.ends_with("/subjectaccessreviews");
        match *request.method() {
            Method::POST if review(request.uri().path()) => Verb::Review,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ if request.uri().query().is_some_and(|query| query.contains("watch=true")) => Verb::Watch,
            _ => Verb::Get,
        }
    }
}

/// Requests by verb, since the start.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<[AtomicU64; Verb::ALL.len()]>);

impl Calls {
    pub fn count(&self, verb: Verb) -> u64 {
        self.0[verb as usize].load(Ordering::Relaxed)
    }
}

/// Wraps a client's transport.
#[derive(Clone)]
pub struct GateLayer {
    pub calls: Calls,
    /// `None` for the client that keeps the lease itself.
    pub lease: Option<Handle>,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, calls: self.calls.clone(), lease: self.lease.clone() }
    }
}

pub struct Gate<S> {
    inner: S,
    calls: Calls,
    lease: Option<Handle>,
}

impl<S, B> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verb = Verb::of(&request);
        if verb.is_write()
            && let Some(lease) = &self.lease
            && !lease.permits(WRITE_TIMEOUT)
        {
            return Box::pin(async { Err(BoxError::from(Refused::NoLease)) });
        }
        self.calls.0[verb as usize].fetch_add(1, Ordering::Relaxed);
        let limit = if verb.is_write() { WRITE_TIMEOUT } else { READ_TIMEOUT };
        let answer = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(BoxError::from(Refused::TimedOut(limit))),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    fn request(method: Method, uri: &str) -> Request<Body> {
        Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
    }

    #[track_caller]
    fn check(method: Method, uri: &str, expect: Verb) {
        assert_eq!(Verb::of(&request(method, uri)), expect);
    }

    #[test]
    fn verbs_are_told_apart() {
        check(Method::GET, "/api/v1/nodes?limit=500", Verb::Get);
        check(Method::GET, "/api/v1/nodes?&watch=true&timeoutSeconds=290", Verb::Watch);
        check(Method::POST, "/api/v1/namespaces/a/pods?dryRun=All", Verb::Create);
        check(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews", Verb::Review);
        check(Method::POST, "/apis/authorization.k8s.io/v1/subjectaccessreviews", Verb::Review);
        check(Method::PATCH, "/apis/apps/v1/namespaces/a/daemonsets/b?fieldManager=x", Verb::Patch);
        check(Method::PUT, "/api/v1/namespaces/a/secrets/b", Verb::Update);
        check(Method::DELETE, "/api/v1/namespaces/a/configmaps/b", Verb::Delete);
    }

    async fn send(lease: Option<Handle>, method: Method, uri: &str) -> (Result<(), String>, u64) {
        let calls = Calls::default();
        let layer = GateLayer { calls: calls.clone(), lease };
        let inner = tower::service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(())) });
        let sent = layer.layer(inner).oneshot(request(method, uri)).await;
        let total = Verb::ALL.iter().map(|verb| calls.count(*verb)).sum();
        (sent.map(drop).map_err(|error| error.to_string()), total)
    }

    #[tokio::test]
    async fn without_the_lease_questions_pass_and_writes_do_not_reach_the_server() {
        let handle = Handle::default();
        let (answer, calls) = send(Some(handle.clone()), Method::GET, "/api/v1/nodes").await;
        assert!(answer.is_ok() && calls == 1);
        let (answer, calls) = send(Some(handle), Method::PATCH, "/api/v1/namespaces/a/services/b").await;
        assert_eq!(answer, Err("not written: the lease is not held for long enough".to_owned()));
        assert_eq!(calls, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_ends_with_its_timeout() {
        let layer = GateLayer { calls: Calls::default(), lease: None };
        let inner = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<()>, BoxError>>());
        let error = layer.layer(inner).oneshot(request(Method::PATCH, "/x")).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 3 s");
    }
}
