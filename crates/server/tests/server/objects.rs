//! Conditions, as the standalone server keeps and shows them.

use ers_model::{Clock as _, Labels, Sample, SystemClock};
use ers_store::Scope;
use serde_json::Value;

use crate::harness::{NODES_YAML, TestServer};

async fn object(server: &TestServer, read: &str, name: &str) -> Value {
    let list: Value = server.get("/ers/v1/objects").bearer_auth(read).send().await.unwrap().json().await.unwrap();
    list["items"].as_array().unwrap().iter().find(|item| item["name"] == name).cloned().unwrap_or_default()
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|one| one["type"] == kind)).unwrap_or(&Value::Null)
}

async fn reaches(server: &TestServer, read: &str, name: &str, kind: &str, status: &str, reason: &str) -> Value {
    let what = format!("{name} {kind}={status} {reason}");
    let mut found = Value::Null;
    server
        .until(&what, async || {
            found = object(server, read, name).await;
            let one = condition(&found, kind);
            one["status"] == status && one["reason"] == reason
        })
        .await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_is_ready_when_its_stores_wrote_and_read_back() {
    let server = TestServer::start().await;
    let read = server.token(&[Scope::Read]).await;
    let policy = reaches(&server, &read, "reporting", "Ready", "True", "Proven").await;
    for (kind, reason) in [
        ("Accepted", "Valid"),
        ("Loaded", "Loaded"),
        ("StorageReady", "WrittenAndReadBack"),
        ("SecretsReady", "NoSecrets"),
    ] {
        let one = condition(&policy, kind);
        assert_eq!((one["status"].as_str(), one["reason"].as_str()), (Some("True"), Some(reason)), "{kind}");
    }
    assert_eq!((policy["generation"].as_i64(), policy["activeGeneration"].as_i64()), (Some(1), Some(1)));
    assert_eq!(policy["spec"]["retentionDays"], 15);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_is_named_and_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = crate::harness::settings(folder.path());
    let policy = "
apiVersion: reporting.ers.dev/v1alpha1
kind: ReportPolicy
metadata: {name: reporting}
spec:
  secrets: [{name: mail, secretRef: {name: smtp, key: password}}]
";
    std::fs::write(settings.manifests.join("policy.yaml"), policy).unwrap();
    let server = TestServer::start_in(folder, crate::harness::config()).await;
    let read = server.token(&[Scope::Read]).await;
    let found = reaches(&server, &read, "reporting", "SecretsReady", "False", "SecretNotFound").await;
    let message = condition(&found, "SecretsReady")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("mail") && message.contains("smtp"), "{message}");
    std::fs::create_dir(settings.secrets_dir.join("smtp")).unwrap();
    std::fs::write(settings.secrets_dir.join("smtp/password"), "hunter2").unwrap();
    // The next change of an object makes it look again at once.
    std::fs::write(settings.manifests.join("more.yaml"), NODES_YAML.replace("nodes", "more")).unwrap();
    reaches(&server, &read, "reporting", "SecretsReady", "True", "SecretsResolved").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_is_collecting_once_its_samples_arrive() {
    let server = TestServer::start().await;
    let read = server.token(&[Scope::Read]).await;
    reaches(&server, &read, "nodes", "Collecting", "Unknown", "Pending").await;
    let agent = server.agent_key("nodes", "n1").await;
    let up = |job: &str, value: f64| {
        let labels = Labels::from_pairs([("__name__", "up"), ("ers_target", "nodes"), ("job", job)]);
        (labels, vec![Sample { timestamp_ms: SystemClock.now_ms(), value }])
    };
    assert_eq!(server.write(&agent, &[up("host", 1.0)]).await.status(), 204);
    let found = reaches(&server, &read, "nodes", "Collecting", "True", "SamplesArrive").await;
    let since = condition(&found, "Collecting")["lastTransitionTime"].clone();
    assert_eq!(server.write(&agent, &[up("kubelet", 0.0)]).await.status(), 204);
    let found = reaches(&server, &read, "nodes", "Collecting", "True", "SomeTargetsDown").await;
    assert_eq!(condition(&found, "Collecting")["lastTransitionTime"], since, "the status did not change");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_edit_leaves_the_generation_before_in_force() {
    let server = TestServer::start().await;
    let read = server.token(&[Scope::Read]).await;
    reaches(&server, &read, "nodes", "Accepted", "True", "Valid").await;
    let manifest = server.folder.path().join("manifests/nodes.yaml");
    std::fs::write(&manifest, NODES_YAML.replace("intervalSeconds: 5", "intervalSeconds: 0")).unwrap();
    let found = reaches(&server, &read, "nodes", "Accepted", "False", "Invalid").await;
    assert!(condition(&found, "Accepted")["message"].as_str().unwrap().contains("spec.intervalSeconds"), "{found}");
    assert_eq!(condition(&found, "Degraded")["reason"], "PreviousGenerationInForce");
    assert_eq!((found["observedGeneration"].as_i64(), found["activeGeneration"].as_i64()), (Some(2), Some(1)));
    assert_eq!(found["spec"]["intervalSeconds"], 5);
    // Also over a restart: its agents must not stop because of it.
    let folder = server.stop().await;
    let server = TestServer::start_in(folder, crate::harness::config()).await;
    server.ready().await;
    let agent = server.agent_key("nodes", "n1").await;
    let sample =
        (Labels::from_pairs([("__name__", "x")]), vec![Sample { timestamp_ms: SystemClock.now_ms(), value: 1.0 }]);
    assert_eq!(server.write(&agent, &[sample]).await.status(), 204);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_removed_takes_its_agents_rights_with_it() {
    let server = TestServer::start().await;
    server.ready().await;
    let agent = server.agent_key("nodes", "n1").await;
    std::fs::remove_file(server.folder.path().join("manifests/nodes.yaml")).unwrap();
    server
        .until("revoked", async || {
            server.post("/api/v1/write").bearer_auth(&agent).send().await.unwrap().status() == 401
        })
        .await;
    server.stop().await;
}
