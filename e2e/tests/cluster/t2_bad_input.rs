//! Bad input: the table of bad manifests, put to the real API server; malformed and oversized bodies, put to the real server.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ers_e2e::{Cluster, eventually};
use kube::client::Body;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{DEMO, MINUTE, demo_server};

const NAMESPACE: &str = "e2e-bad-input";

/// Puts one object to the API server with `fieldValidation=Strict`; answers the HTTP status and the body.
async fn put(cluster: &Cluster, method: &str, object: &Value, dry_run: bool) -> Result<(u16, Value)> {
    let plural = match object["kind"].as_str() {
        Some("ReportPolicy") => "reportpolicies",
        Some("CollectorTarget") => "collectortargets",
        other => anyhow::bail!("kind {other:?}"),
    };
    let mut object = object.clone();
    object["metadata"]["namespace"] = json!(NAMESPACE);
    let mut path = format!("/apis/reporting.ers.dev/v1alpha1/namespaces/{NAMESPACE}/{plural}");
    if method == "PUT" {
        path = format!("{path}/{}", object["metadata"]["name"].as_str().context("name")?);
    }
    let dry_run = if dry_run { "&dryRun=All" } else { "" };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?fieldValidation=Strict{dry_run}"))
        .header("Content-Type", "application/json")
        .body(Body::from(serde_json::to_vec(&object)?))?;
    let answer = cluster.client.send(request).await?;
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect_bytes().await?;
    Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}

/// What the API server's answer says against what the table expects; `None` when they agree.
fn differs(by: &str, expected: &Value, status: u16, answer: &Value) -> Option<String> {
    if status < 400 {
        return Some(format!("accepted with {status}"));
    }
    let (field, message) = (expected["field"].as_str()?, expected["message"].as_str()?);
    let whole = answer["message"].as_str().unwrap_or_default();
    let causes = answer["details"]["causes"].as_array().cloned().unwrap_or_default();
    let in_cause = causes.iter().any(|cause| {
        cause["field"].as_str() == Some(field) && cause["message"].as_str().is_some_and(|said| said.ends_with(message))
    });
    let agrees = match by {
        "strict" => whole.contains(message),
        _ => in_cause,
    };
    (!agrees).then(|| {
        format!("expected {field}: {message}\n      answered {status} {whole}\n      causes {}", Value::Array(causes))
    })
}

#[tokio::test]
async fn the_api_server_refuses_every_bad_manifest_at_the_same_field_by_the_same_rule() -> Result<()> {
    let cluster = Cluster::connect().await?;
    cluster.create_namespace(NAMESPACE, json!({})).await?;
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/tests/bad_manifests.yaml"))?;
    let (mut cases, mut wrong) = (0, Vec::new());
    for document in serde_yaml_ng::Deserializer::from_str(&table) {
        let case: Value = serde::Deserialize::deserialize(document)?;
        let name = case["case"].as_str().context("case")?;
        cases += 1;
        let (status, answer) = if case["old"].is_object() {
            let (status, old) = put(&cluster, "POST", &case["old"], false).await?;
            ensure!(status < 300, "{name}: the object before was refused: {old}");
            let mut changed = case["object"].clone();
            changed["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
            // The operator may write a status meanwhile, which makes the version old.
            let answer = eventually(name, MINUTE, || async {
                let mut changed = changed.clone();
                let api = if old["kind"] == "ReportPolicy" {
                    cluster.policies(NAMESPACE)
                } else {
                    cluster.targets(NAMESPACE)
                };
                let now = api.get(old["metadata"]["name"].as_str().unwrap_or_default()).await?;
                changed["metadata"]["resourceVersion"] = json!(now.metadata.resource_version);
                let answer = put(&cluster, "PUT", &changed, true).await?;
                Ok((answer.0 != 409).then_some(answer))
            })
            .await?;
            let api =
                if old["kind"] == "ReportPolicy" { cluster.policies(NAMESPACE) } else { cluster.targets(NAMESPACE) };
            api.delete(old["metadata"]["name"].as_str().unwrap_or_default(), &Default::default()).await?;
            answer
        } else {
            put(&cluster, "POST", &case["object"], true).await?
        };
        let by = case["by"].as_str().unwrap_or_default();
        for expected in case["expect"].as_array().into_iter().flatten() {
            if let Some(difference) = differs(by, expected, status, &answer) {
                wrong.push(format!("{name} ({by})\n      {difference}"));
            }
        }
    }
    println!("{cases} bad manifests put to the API server");
    cluster.delete_namespace(NAMESPACE, 2 * MINUTE).await?;
    ensure!(cases >= 40, "only {cases} cases");
    ensure!(wrong.is_empty(), "{} of {cases} differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn check_says_the_same_without_a_cluster() -> Result<()> {
    let binary =
        std::env::var("ERS_E2E_OPERATOR").context("ERS_E2E_OPERATOR is not set: run e2e/test.sh --only cluster")?;
    let file = std::env::temp_dir().join(format!("ers-check-{}.yaml", std::process::id()));
    fs::write(
        &file,
        "apiVersion: reporting.ers.dev/v1alpha1\nkind: CollectorTarget\nmetadata: {name: t, namespace: d}\nspec: {type: Node, intervalSeconds: 10, timeoutSeconds: 20, node: {sources: [{name: h, kind: HostMetrics}]}}\n",
    )?;
    let output = std::process::Command::new(&binary).arg("check").arg(&file).output()?;
    fs::remove_file(&file)?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!output.status.success(), "check accepted it: {text}");
    ensure!(text.contains("timeoutSeconds"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_bad_query_is_answered_with_the_place_of_the_error() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    for (query, part) in [
        ("up{", "parse error"),
        ("rate(up)", "range vector"),
        ("sum by (x (up)", "parse error"),
        ("nosuch(up)", "unknown function"),
    ] {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, body) = server.call(Method::GET, &format!("/api/v1/query?query={encoded}"), None).await?;
        ensure!(status == 400 && body["errorType"] == "bad_data", "{query}: {status} {body}");
        ensure!(body["error"].as_str().is_some_and(|error| error.contains(part)), "{query}: {body}");
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_soon_slowed_down() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    let mut seen = Vec::new();
    for _ in 0..12 {
        let answer = server
            .http
            .post(format!("{}/ers/v1/session", server.base))
            .json(&json!({"username": "nobody-of-that-name", "password": "wrong"}))
            .send()
            .await?;
        seen.push(answer.status().as_u16());
        if answer.status() == 429 {
            ensure!(answer.headers().contains_key("retry-after"), "429 without Retry-After");
            break;
        }
    }
    ensure!(seen.first() == Some(&401) && seen.last() == Some(&429), "{seen:?}");
    // The administrator's own log-in, from the same address, is not locked out by that.
    demo_server(&cluster).await?;
    ensure!(!cluster.pods(DEMO, "app.kubernetes.io/name=ers-server").await?.is_empty(), "the server runs");
    Ok(())
}
