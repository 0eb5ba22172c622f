//! Nothing is written while nothing changes, and memory does not grow with other people's objects.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom};

use anyhow::{Context, Result, ensure};
use ers_e2e::wait::for_the_length_of;
use ers_e2e::{Cluster, processes};
use serde_json::{Value, json};

use crate::{DEMO, MINUTE};

/// The three programs' resident memory, in bytes.
async fn resident(cluster: &Cluster) -> Result<BTreeMap<&'static str, u64>> {
    let mut found = BTreeMap::new();
    for (program, namespace, selector) in [
        ("ers-operator", "ers-system", "app.kubernetes.io/name=ers-operator"),
        ("ers-server", DEMO, "app.kubernetes.io/name=ers-server"),
        ("ers-agent", DEMO, "reporting.ers.dev/target=nodes"),
    ] {
        for pod in cluster.pods(namespace, selector).await? {
            for pid in processes::of_pod(&pod.metadata.uid.context("uid")?, program)? {
                let bytes = processes::resident_bytes(pid)?;
                let most = found.entry(program).or_insert(0);
                *most = bytes.max(*most);
            }
        }
    }
    ensure!(found.len() == 3, "processes found: {:?}", found.keys());
    Ok(found)
}

#[tokio::test]
async fn three_minutes_at_rest_write_nothing_but_the_lease() -> Result<()> {
    let path =
        std::env::var("ERS_E2E_AUDIT_LOG").context("ERS_E2E_AUDIT_LOG is not set: run e2e/test.sh --only cluster")?;
    // What the tests before this one changed may still settle.
    for_the_length_of(MINUTE / 2).await;
    let start = fs::metadata(&path).with_context(|| path.clone())?.len();
    for_the_length_of(3 * MINUTE).await;
    let mut file = fs::File::open(&path)?;
    file.seek(SeekFrom::Start(start))?;
    let (mut writes, mut reviews, mut lease, mut seen) = (Vec::new(), 0, 0, 0);
    for line in BufReader::new(file).lines() {
        let Ok(event) = serde_json::from_str::<Value>(&line?) else { continue };
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let ours =
            user.starts_with("system:serviceaccount:ers-system:") || user.starts_with("system:serviceaccount:demo:");
        let verb = event["verb"].as_str().unwrap_or_default();
        seen += 1;
        if !ours || !["create", "update", "patch", "delete", "deletecollection"].contains(&verb) {
            continue;
        }
        match event["objectRef"]["resource"].as_str().unwrap_or_default() {
            "leases" => lease += 1,
            "tokenreviews" | "subjectaccessreviews" => reviews += 1,
            resource => writes.push(format!(
                "{user} {verb} {resource}/{} {}",
                event["objectRef"]["name"], event["objectRef"]["subresource"]
            )),
        }
    }
    println!(
        "three minutes at rest: {seen} audit events, {lease} lease writes, {reviews} token and access reviews, {} other writes",
        writes.len()
    );
    ensure!(seen > 0 && lease > 10, "the audit log was not read: {seen} events, {lease} lease writes");
    ensure!(writes.is_empty(), "writes at rest: {writes:#?}");
    Ok(())
}

#[tokio::test]
async fn two_thousand_foreign_objects_change_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let before = resident(&cluster).await?;
    cluster.create_namespace("e2e-foreign", json!({})).await?;
    let payload = "x".repeat(4096);
    for kind in ["Secret", "ConfigMap"] {
        let field = if kind == "Secret" { "stringData" } else { "data" };
        let items: Vec<Value> = (0..1000)
            .map(|number| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": format!("foreign-{number}"), "namespace": "e2e-foreign"}, field: {"payload": payload}}))
            .collect();
        let file = std::env::temp_dir().join(format!("ers-foreign-{kind}-{}.json", std::process::id()));
        fs::write(&file, serde_json::to_vec(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?)?;
        let created = cluster.kubectl(&["create", "-f", &file.to_string_lossy()]);
        fs::remove_file(&file)?;
        let (succeeded, text) = created?;
        ensure!(succeeded, "{}", text.lines().last().unwrap_or_default());
    }
    let after = resident(&cluster).await?;
    cluster.delete_namespace("e2e-foreign", 3 * MINUTE).await?;
    for (program, bytes) in &after {
        let was = before[program];
        println!(
            "{program}: {:.1} MiB, with 2,000 foreign objects {:.1} MiB",
            was as f64 / 1048576.0,
            *bytes as f64 / 1048576.0
        );
    }
    // 8 MiB of foreign payload would show at once if anything cached it; 4 MiB is what a server takes anyway for samples that arrived meanwhile.
    let (was, is) = (before["ers-operator"], after["ers-operator"]);
    ensure!(is < was + was / 20 + (1 << 20), "the operator grew from {was} to {is} bytes");
    ensure!(is < 64 << 20, "the operator takes {is} bytes");
    Ok(())
}
