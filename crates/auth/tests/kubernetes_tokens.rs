//! Kubernetes tokens against a reviewer that says what the test wants.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must end")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use ers_auth::kubernetes::{KubernetesAuthenticator, TokenReviewer, Trust};
use ers_auth::{AgentIdentity, AuthError, Principal};
use ers_model::Clock;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

const AUDIENCE: &str = "ers:demo/reporting";

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Reviewer {
    answer: Mutex<Result<TokenReviewStatus, String>>,
    asked: AtomicUsize,
}

#[async_trait]
impl TokenReviewer for Reviewer {
    async fn review(&self, _token: &str, audience: &str) -> Result<TokenReviewStatus, String> {
        assert_eq!(audience, AUDIENCE);
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answer.lock().unwrap().clone()
    }
}

fn token(audience: &str, expires: i64) -> String {
    let payload = serde_json::json!({"aud": [audience], "exp": expires}).to_string();
    format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(payload))
}

fn accepted(user: &str) -> TokenReviewStatus {
    let extra = BTreeMap::from([
        ("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()]),
        ("authentication.kubernetes.io/pod-name".to_owned(), vec!["nodes-agent-x".to_owned()]),
    ]);
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec![AUDIENCE.to_owned()]),
        user: Some(UserInfo { username: Some(user.to_owned()), extra: Some(extra), ..UserInfo::default() }),
        error: None,
    }
}

struct Setup {
    reviewer: Arc<Reviewer>,
    clock: Arc<TestClock>,
    authenticator: KubernetesAuthenticator,
}

fn setup(answer: Result<TokenReviewStatus, String>) -> Setup {
    let reviewer = Arc::new(Reviewer { answer: Mutex::new(answer), asked: AtomicUsize::new(0) });
    let clock = Arc::new(TestClock(AtomicI64::new(1_000_000)));
    let trust = Trust {
        audience: AUDIENCE.to_owned(),
        namespace: "demo".to_owned(),
        operator: ("ers-system".to_owned(), "ers-operator".to_owned()),
    };
    let authenticator = KubernetesAuthenticator::new(reviewer.clone(), trust, clock.clone());
    Setup { reviewer, clock, authenticator }
}

#[tokio::test]
async fn an_agent_is_known_by_its_service_account_and_node() {
    let setup = setup(Ok(accepted("system:serviceaccount:demo:nodes-agent")));
    let principal = setup.authenticator.authenticate(&token(AUDIENCE, 5_000)).await.unwrap();
    let Principal::Agent(AgentIdentity::KubernetesToken { namespace, target, pod, node, .. }) = principal else {
        panic!("{principal:?}")
    };
    assert_eq!((namespace.as_str(), target.as_str()), ("demo", "nodes"));
    assert_eq!((pod.as_deref(), node.as_deref()), (Some("nodes-agent-x"), Some("n1")));
}

#[tokio::test]
async fn the_operator_and_foreign_accounts_are_told_apart() {
    let operator = setup(Ok(accepted("system:serviceaccount:ers-system:ers-operator")));
    let principal = operator.authenticator.authenticate(&token(AUDIENCE, 5_000)).await.unwrap();
    assert!(matches!(principal, Principal::Operator { .. }));
    for name in [
        "system:serviceaccount:other:nodes-agent",
        "system:serviceaccount:demo:default",
        "system:serviceaccount:demo:-agent",
    ] {
        let foreign = setup(Ok(accepted(name)));
        let principal = foreign.authenticator.authenticate(&token(AUDIENCE, 5_000)).await.unwrap();
        assert!(matches!(principal, Principal::OtherServiceAccount { .. }), "{name}");
    }
}

#[tokio::test]
async fn a_back_end_that_cannot_be_reached_is_never_a_refusal() {
    let setup = setup(Err("gone".to_owned()));
    let answer = setup.authenticator.authenticate(&token(AUDIENCE, 5_000)).await;
    assert!(matches!(answer, Err(AuthError::Unavailable(_))));
    // And it is not remembered: the next try asks again.
    *setup.reviewer.answer.lock().unwrap() = Ok(accepted("system:serviceaccount:demo:nodes-agent"));
    assert!(setup.authenticator.authenticate(&token(AUDIENCE, 5_000)).await.is_ok());
}

#[tokio::test]
async fn a_verdict_is_cached_until_the_token_ends_or_ten_minutes() {
    let setup = setup(Ok(accepted("system:serviceaccount:demo:nodes-agent")));
    let long = token(AUDIENCE, 100_000);
    for _ in 0..5 {
        setup.authenticator.authenticate(&long).await.unwrap();
    }
    assert_eq!(setup.reviewer.asked.load(Ordering::SeqCst), 1);
    setup.clock.0.fetch_add(600_001, Ordering::SeqCst);
    setup.authenticator.authenticate(&long).await.unwrap();
    assert_eq!(setup.reviewer.asked.load(Ordering::SeqCst), 2);
    let short = token(AUDIENCE, 1_700);
    setup.authenticator.authenticate(&short).await.unwrap();
    setup.clock.0.store(1_700_000, Ordering::SeqCst);
    let answer = setup.authenticator.authenticate(&short).await;
    assert!(matches!(answer, Err(AuthError::Unauthenticated("the token has expired"))));
}

#[tokio::test]
async fn while_the_api_server_is_away_the_last_verdict_holds_for_the_rest_of_its_ten_minutes() {
    let setup = setup(Ok(accepted("system:serviceaccount:demo:nodes-agent")));
    let long = token(AUDIENCE, 100_000);
    setup.authenticator.authenticate(&long).await.unwrap();
    *setup.reviewer.answer.lock().unwrap() = Err("gone".to_owned());
    setup.clock.0.fetch_add(400_000, Ordering::SeqCst);
    for _ in 0..3 {
        setup.authenticator.authenticate(&long).await.unwrap();
    }
    assert_eq!(setup.reviewer.asked.load(Ordering::SeqCst), 2, "the silence is not asked with every request");
    setup.clock.0.fetch_add(200_001, Ordering::SeqCst);
    assert!(matches!(setup.authenticator.authenticate(&long).await, Err(AuthError::Unavailable(_))));
}

#[tokio::test]
async fn tokens_that_are_not_for_us_cost_no_review() {
    let setup = setup(Ok(accepted("system:serviceaccount:demo:nodes-agent")));
    let long = "x".repeat(20_000);
    for wrong in [
        token("other", 5_000),
        token(AUDIENCE, 10),
        "garbage".to_owned(),
        "a.b.c".to_owned(),
        "a.b.c.d".to_owned(),
        long,
    ] {
        let answer = setup.authenticator.authenticate(&wrong).await;
        assert!(matches!(answer, Err(AuthError::Unauthenticated(_))));
    }
    assert_eq!(setup.reviewer.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_answer_without_our_audience_is_a_refusal_and_remembered_shortly() {
    let mut status = accepted("system:serviceaccount:demo:nodes-agent");
    status.audiences = None;
    let setup = setup(Ok(status));
    for _ in 0..3 {
        let answer = setup.authenticator.authenticate(&token(AUDIENCE, 5_000)).await;
        assert!(matches!(answer, Err(AuthError::Unauthenticated(_))));
    }
    assert_eq!(setup.reviewer.asked.load(Ordering::SeqCst), 1);
    setup.clock.0.fetch_add(10_001, Ordering::SeqCst);
    *setup.reviewer.answer.lock().unwrap() = Ok(accepted("system:serviceaccount:demo:nodes-agent"));
    assert!(setup.authenticator.authenticate(&token(AUDIENCE, 5_000)).await.is_ok());
}
