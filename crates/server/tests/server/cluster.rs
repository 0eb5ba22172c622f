//! In a cluster, with an API server that is played: what is read, what is written, and that nothing more is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use ers_model::{Clock as _, Labels, Sample, SystemClock};
use ers_plan::{ListenConfig, Place, server_config};
use ers_server::run::{self, Options};
use ers_server::world::World;
use ers_store::Scope;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};

use crate::harness::{NAMESPACE, POLICY, TestServer, client};

const AUDIENCE: &str = "ers:demo/reporting";

/// How the played API server judges tokens.
#[derive(Clone, Copy)]
enum Review {
    Accept,
    Refuse,
    Broken,
}

struct Fake {
    review: Review,
    /// Method and path of everything that changes something.
    writes: Vec<String>,
    /// By path.
    kept: std::collections::BTreeMap<String, Value>,
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "reporting.ers.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}"), "generation": 4, "resourceVersion": "7"},
        "spec": spec,
    })
}

fn policy() -> Value {
    object(
        "ReportPolicy",
        POLICY,
        json!({"secrets": [{"name": "mail", "secretRef": {"name": "smtp", "key": "password"}}]}),
    )
}

fn target() -> Value {
    object(
        "CollectorTarget",
        "nodes",
        json!({"type": "Node", "node": {"sources": [{"name": "host", "kind": "HostMetrics"}]}}),
    )
}

impl Fake {
    fn answer(&mut self, method: &str, path: &str, query: &str, body: &[u8]) -> (u16, Option<Value>) {
        let last = path.rsplit('/').next().unwrap_or_default().to_owned();
        if method == "GET" && ["reportpolicies", "collectortargets"].contains(&last.as_str()) {
            if query.contains("watch=true") {
                return (200, None);
            }
            let (kind, item) =
                if last == "reportpolicies" { ("ReportPolicy", policy()) } else { ("CollectorTarget", target()) };
            let list = json!({"apiVersion": "reporting.ers.dev/v1alpha1", "kind": format!("{kind}List"), "metadata": {"resourceVersion": "9"}, "items": [item]});
            return (200, Some(list));
        }
        if path.ends_with("/tokenreviews") {
            return self.token_review();
        }
        if method == "GET" {
            return match self.kept.get(path) {
                Some(kept) => (200, Some(kept.clone())),
                None => (
                    404,
                    Some(
                        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404}),
                    ),
                ),
            };
        }
        self.writes.push(format!("{method} {path}"));
        let mut sent: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if path.ends_with("/status") {
            let mut whole = if path.contains("reportpolicies") { policy() } else { target() };
            whole["status"] = sent["status"].take();
            sent = whole;
        }
        sent["metadata"]["resourceVersion"] = json!("8");
        self.kept.insert(path.to_owned(), sent.clone());
        (200, Some(sent))
    }

    fn token_review(&self) -> (u16, Option<Value>) {
        let status = match self.review {
            Review::Broken => {
                return (
                    500,
                    Some(
                        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "message": "etcd", "code": 500}),
                    ),
                );
            }
            Review::Refuse => json!({"authenticated": false}),
            Review::Accept => json!({
                "authenticated": true,
                "audiences": [AUDIENCE],
                "user": {"username": "system:serviceaccount:demo:nodes-agent", "extra": {"authentication.kubernetes.io/node-name": ["n7"]}},
            }),
        };
        (
            201,
            Some(
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status}),
            ),
        )
    }
}

fn played(fake: &Arc<Mutex<Fake>>) -> kube::Client {
    let fake = fake.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let fake = fake.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| std::io::Error::other(error.to_string()))?.to_bytes();
            let path = parts.uri.path();
            let query = parts.uri.query().unwrap_or_default();
            let (status, answer) = fake.lock().unwrap().answer(parts.method.as_str(), path, query, &body);
            let body: UnsyncBoxBody<bytes::Bytes, std::io::Error> = match answer {
                Some(answer) => Full::from(answer.to_string()).map_err(|never| match never {}).boxed_unsync(),
                // A watch in which nothing happens.
                None => StreamBody::new(futures::stream::pending()).boxed_unsync(),
            };
            Ok::<_, std::io::Error>(http::Response::builder().status(status).body(body).unwrap())
        }
    });
    kube::Client::new(service, NAMESPACE)
}

async fn start(fake: &Arc<Mutex<Fake>>) -> TestServer {
    crate::harness::install_provider();
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let place = Place {
        listen: ListenConfig { https: any_port, metrics: any_port },
        ..Place::kubernetes("local", Some("here".to_owned()))
    };
    let valid = ers_crds::validate::report_policy(&serde_json::from_value(policy()).unwrap(), None).unwrap();
    let config = server_config(&valid, &place).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let world = World::Kubernetes { client: played(fake), operator_namespace: "ers-system".to_owned() };
    let options = Options { config, place, data_dir: folder.path().join("data"), clock: Arc::new(SystemClock), world };
    let running = run::start(options).await.expect("the server starts");
    TestServer {
        url: format!("https://127.0.0.1:{}", running.https.port()),
        metrics_url: format!("https://127.0.0.1:{}", running.metrics.port()),
        client: client(&running.certificate.get().authorities),
        running,
        folder,
    }
}

fn fake(review: Review) -> Arc<Mutex<Fake>> {
    Arc::new(Mutex::new(Fake { review, writes: Vec::new(), kept: Default::default() }))
}

fn kubernetes_token(number: u32) -> String {
    use base64::Engine as _;
    let expires = SystemClock.now_ms() / 1_000 + 3_600;
    let payload = json!({"aud": [AUDIENCE], "exp": expires, "jti": number}).to_string();
    format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(payload))
}

fn condition(object: &Value, kind: &str) -> (String, String) {
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let one = all.into_iter().find(|one| one["type"] == kind).unwrap_or_default();
    (one["status"].as_str().unwrap_or_default().to_owned(), one["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_password_and_conditions_are_written_once() {
    let fake = fake(Review::Accept);
    let server = start(&fake).await;
    let kept = |path: &str| fake.lock().unwrap().kept.get(path).cloned().unwrap_or_default();
    let map = "/api/v1/namespaces/demo/configmaps/reporting-ca";
    let secret = "/api/v1/namespaces/demo/secrets/reporting-admin";
    let policy_status = "/apis/reporting.ers.dev/v1alpha1/namespaces/demo/reportpolicies/reporting/status";
    let target_status = "/apis/reporting.ers.dev/v1alpha1/namespaces/demo/collectortargets/nodes/status";
    server.until("published", async || !kept(map).is_null() && !kept(secret).is_null()).await;
    assert_eq!(kept(map)["data"]["ca.crt"], server.running.certificate.get().authorities.as_str());
    assert_eq!(kept(map)["metadata"]["ownerReferences"][0]["uid"], "uid-reporting");
    use base64::Engine as _;
    let password = base64::engine::general_purpose::STANDARD.encode(server.admin_password());
    assert_eq!(kept(secret)["data"]["password"], password.as_str());

    let ok = |reason: &str| ("True".to_owned(), reason.to_owned());
    server.until("told", async || condition(&kept(policy_status), "StorageReady") == ok("WrittenAndReadBack")).await;
    assert_eq!(condition(&kept(policy_status), "Loaded"), ok("Loaded"));
    assert_eq!(condition(&kept(policy_status), "SecretsReady"), ("False".to_owned(), "SecretNotFound".to_owned()));
    assert_eq!(condition(&kept(policy_status), "Ready"), (String::new(), String::new()), "that is the operator's");
    assert_eq!(condition(&kept(target_status), "Collecting"), ("Unknown".to_owned(), "Pending".to_owned()));

    // At rest: two more rounds of the reporter, and nothing is written.
    let before = fake.lock().unwrap().writes.clone();
    tokio::time::timeout(std::time::Duration::from_secs(11), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(fake.lock().unwrap().writes, before);
    let names: std::collections::BTreeSet<&String> = before.iter().collect();
    assert_eq!(names.len(), 4, "{before:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_known_by_their_tokens_and_kept_waiting_when_nobody_can_say() {
    let fake = fake(Review::Accept);
    let server = start(&fake).await;
    let objects = &server.running.app.objects;
    server.until("synced", async || objects.picture().synced).await;
    let sample = |name: &str| {
        [(
            Labels::from_pairs([("__name__", name), ("node", "forged")]),
            vec![Sample { timestamp_ms: SystemClock.now_ms(), value: 1.0 }],
        )]
    };
    assert_eq!(server.write(&kubernetes_token(1), &sample("x")).await.status(), 204);
    let read = server.token(&[Scope::Read]).await;
    let data = server.data(&read, "/api/v1/query?query=x").await;
    assert_eq!(
        (data["result"][0]["metric"]["node"].as_str(), data["result"][0]["metric"]["instance"].as_str()),
        (Some("n7"), Some("n7"))
    );

    fake.lock().unwrap().review = Review::Broken;
    assert_eq!(server.write(&kubernetes_token(1), &sample("x")).await.status(), 204, "a known token needs nobody");
    let waiting = server.write(&kubernetes_token(2), &sample("y")).await;
    assert_eq!(waiting.status(), 503);
    assert!(waiting.headers().contains_key("retry-after"));
    fake.lock().unwrap().review = Review::Refuse;
    assert_eq!(server.write(&kubernetes_token(2), &sample("y")).await.status(), 401);
    // An agent's token opens nothing else.
    for path in ["/api/v1/query?query=x", "/ers/v1/objects", "/ers/v1/audit"] {
        assert_eq!(server.get(path).bearer_auth(kubernetes_token(1)).send().await.unwrap().status(), 403, "{path}");
    }
    server.stop().await;
}
