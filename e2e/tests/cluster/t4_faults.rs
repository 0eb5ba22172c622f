//! Programs are killed, stopped and cut off in the middle of their work. What was acknowledged is still there afterwards,
//! and what was measured meanwhile arrives late, not never.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ers_e2e::wait::for_the_length_of;
use ers_e2e::{Cluster, ServerApi, eventually, processes};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::{DEMO, MINUTE, NODES, POLICY, demo_server};

const SERVER_PODS: &str = "app.kubernetes.io/name=ers-server";
const AGENT_PODS: &str = "reporting.ers.dev/target=nodes";
const OPERATOR_PODS: &str = "app.kubernetes.io/name=ers-operator";

fn uid(pod: &DynamicObject) -> Result<String> {
    pod.metadata.uid.clone().context("uid")
}

fn restarts(pod: &DynamicObject) -> u64 {
    pod.data["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|status| status["restartCount"].as_u64())
        .sum()
}

async fn one_process(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
    program: &str,
) -> Result<(DynamicObject, u32)> {
    eventually(&format!("a process of {selector}"), MINUTE, || async {
        for pod in cluster.pods(namespace, selector).await? {
            if let Some(pid) = processes::of_pod(&uid(&pod)?, program)?.first() {
                return Ok(Some((pod, *pid)));
            }
        }
        Ok(None)
    })
    .await
}

async fn interval(cluster: &Cluster) -> Result<f64> {
    cluster.targets(DEMO).get(NODES).await?.data["spec"]["intervalSeconds"].as_f64().context("intervalSeconds")
}

/// Waits until the server holds every scrape of the last `window` seconds: no gap longer than 1.5 intervals, up to now.
async fn nothing_is_missing(server: &ServerApi, interval: f64, window: u64) -> Result<()> {
    eventually(&format!("every scrape of the last {window} s"), 3 * MINUTE, || async {
        let samples = server.samples("node_load1{job=\"node-exporter\"}", window).await?;
        let now = server.value("time() + 0 * max(node_load1)").await?;
        let times: Vec<f64> = samples.iter().map(|(time, _)| *time).chain([now - interval * 0.5]).collect();
        for pair in times.windows(2) {
            ensure!(
                pair[1] - pair[0] <= interval * 1.5,
                "a gap of {:.1} s, {:.0} s ago",
                pair[1] - pair[0],
                now - pair[0]
            );
        }
        ensure!(times.len() as f64 >= window as f64 / interval * 0.8, "only {} samples", times.len());
        Ok(Some(()))
    })
    .await
}

/// How many samples of the host's series lie in the minute before `at`: acknowledged, and so never to be fewer again.
async fn counted(server: &ServerApi, at: f64) -> Result<f64> {
    server.value(&format!("sum(count_over_time({{job=\"node-exporter\"}}[60s] @ {at:.3}))")).await
}

async fn settled_time(server: &ServerApi) -> Result<f64> {
    Ok(server.value("max(timestamp(node_load1))").await? - 20.0)
}

#[tokio::test]
async fn a_server_killed_in_mid_work_loses_nothing_that_it_acknowledged() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    let at = settled_time(&server).await?;
    let before = counted(&server, at).await?;
    ensure!(before > 100.0, "only {before} samples to lose");
    for _ in 0..3 {
        let (_, pid) = one_process(&cluster, DEMO, SERVER_PODS, "ers-server").await?;
        processes::signal(pid, "KILL")?;
        eventually("the server answers again", 2 * MINUTE, || async {
            let server = demo_server(&cluster).await?;
            ensure!(!processes::runs(pid), "the old process still runs");
            Ok(Some(server.value("count(up)").await?))
        })
        .await?;
    }
    let server = demo_server(&cluster).await?;
    let after = counted(&server, at).await?;
    ensure!(after >= before, "{before} acknowledged samples, {after} left");
    nothing_is_missing(&server, interval(&cluster).await?, 90).await
}

#[tokio::test]
async fn while_the_server_is_down_for_a_minute_agents_spool_and_nothing_is_missing_after() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (_, pid) = one_process(&cluster, DEMO, SERVER_PODS, "ers-server").await?;
    // Without its kubelet the node does not start the server again.
    cluster.tool(&["stop", "kubelet"])?;
    let killed = processes::signal(pid, "KILL");
    for_the_length_of(MINUTE).await;
    cluster.tool(&["start", "kubelet"])?;
    killed?;
    let server =
        eventually("the server answers again", 3 * MINUTE, || async { Ok(Some(demo_server(&cluster).await?)) }).await?;
    nothing_is_missing(&server, interval(&cluster).await?, 150).await
}

#[tokio::test]
async fn while_the_api_server_is_down_for_a_minute_no_sample_is_lost_and_nothing_restarts() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    let mut before = Vec::new();
    for selector in [SERVER_PODS, AGENT_PODS] {
        before.extend(
            cluster
                .pods(DEMO, selector)
                .await?
                .iter()
                .map(|pod| Ok((uid(pod)?, restarts(pod))))
                .collect::<Result<Vec<_>>>()?,
        );
    }
    let interval = interval(&cluster).await?;
    cluster.tool(&["stop", "kube-apiserver"])?;
    for_the_length_of(MINUTE).await;
    let during = nothing_is_missing(&server, interval, 50).await;
    cluster.tool(&["start", "kube-apiserver"])?;
    during.context("while the API server was down")?;
    eventually("the API server answers", MINUTE, || async { Ok(Some(cluster.pods(DEMO, AGENT_PODS).await?)) }).await?;
    let mut after = Vec::new();
    for selector in [SERVER_PODS, AGENT_PODS] {
        after.extend(
            cluster
                .pods(DEMO, selector)
                .await?
                .iter()
                .map(|pod| Ok((uid(pod)?, restarts(pod))))
                .collect::<Result<Vec<_>>>()?,
        );
    }
    ensure!(before == after, "pods and restarts before {before:?}, after {after:?}");
    cluster.kubectl_ok(&["-n", "ers-system", "rollout", "status", "deployment/ers-operator", "--timeout=180s"])?;
    cluster.condition(&cluster.policies(DEMO), POLICY, "Ready", "True", 2 * MINUTE).await?;
    Ok(())
}

#[tokio::test]
async fn an_agent_killed_in_mid_work_goes_on_and_what_it_had_sent_stays() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let server = demo_server(&cluster).await?;
    let at = settled_time(&server).await?;
    let before = counted(&server, at).await?;
    let (_, pid) = one_process(&cluster, DEMO, AGENT_PODS, "ers-agent").await?;
    let killed_at = server.value("time() + 0 * max(node_load1)").await?;
    processes::signal(pid, "KILL")?;
    eventually("a sample of the new process", 2 * MINUTE, || async {
        let newest = server.value("max(timestamp(node_load1))").await?;
        ensure!(newest > killed_at, "newest {newest}, killed at {killed_at}");
        Ok(Some(()))
    })
    .await?;
    let after = counted(&server, at).await?;
    ensure!(after >= before, "{before} acknowledged samples, {after} left");
    cluster.condition(&cluster.targets(DEMO), NODES, "Ready", "True", 2 * MINUTE).await?;
    Ok(())
}

async fn lease_holder(cluster: &Cluster) -> Result<String> {
    let leases = cluster.api("coordination.k8s.io", "v1", "Lease", "leases", Some("ers-system"));
    let lease = leases.get("ers-operator").await?;
    lease.data["spec"]["holderIdentity"]
        .as_str()
        .filter(|holder| !holder.is_empty())
        .map(str::to_owned)
        .context("nobody holds the lease")
}

async fn leader(cluster: &Cluster) -> Result<(String, u32)> {
    eventually("a leader with a process", MINUTE, || async {
        let holder = lease_holder(cluster).await?;
        for pod in cluster.pods("ers-system", OPERATOR_PODS).await? {
            let name = pod.metadata.name.clone().unwrap_or_default();
            if holder.starts_with(&name)
                && let Some(pid) = processes::of_pod(&uid(&pod)?, "ers-operator")?.first()
            {
                return Ok(Some((holder, *pid)));
            }
        }
        bail!("holder {holder} is none of the pods")
    })
    .await
}

/// Changes the interval and waits until that generation is Ready: the operator works.
async fn an_edit_is_carried_out(cluster: &Cluster) -> Result<()> {
    let targets = cluster.targets(DEMO);
    let interval = targets.get(NODES).await?.data["spec"]["timeoutSeconds"].as_u64().unwrap_or(4);
    let other = if interval == 4 { 3 } else { 4 };
    cluster.merge(&targets, NODES, json!({"spec": {"timeoutSeconds": other}})).await?;
    cluster.condition(&targets, NODES, "Ready", "True", 3 * MINUTE).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_operator_is_followed_by_another_within_the_lease() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (holder, pid) = leader(&cluster).await?;
    processes::signal(pid, "KILL")?;
    eventually("another holder", Duration::from_secs(20), || async {
        let now = lease_holder(&cluster).await?;
        ensure!(now != holder, "still {now}");
        Ok(Some(()))
    })
    .await?;
    an_edit_is_carried_out(&cluster).await
}

#[tokio::test]
async fn a_leader_that_was_stopped_writes_nothing_when_it_wakes() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let (holder, pid) = leader(&cluster).await?;
    processes::signal(pid, "STOP")?;
    let followed = eventually("another holder", Duration::from_secs(25), || async {
        let now = lease_holder(&cluster).await?;
        ensure!(now != holder, "still {now}");
        Ok(Some(now))
    })
    .await;
    processes::signal(pid, "CONT")?;
    let follower = followed?;
    eventually("the old leader's process ends", Duration::from_secs(20), || async {
        ensure!(!processes::runs(pid), "it runs");
        Ok(Some(()))
    })
    .await?;
    ensure!(lease_holder(&cluster).await? == follower, "the lease stays where it went");
    an_edit_is_carried_out(&cluster).await
}

#[tokio::test]
async fn a_node_that_was_drained_and_uncordoned_comes_back_with_everything() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let node = cluster.api("", "v1", "Node", "nodes", None).list(&Default::default()).await?.items[0]
        .metadata
        .name
        .clone()
        .context("name")?;
    let drained = cluster.kubectl(&[
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=90s",
        "--pod-selector",
        SERVER_PODS,
    ]);
    cluster.kubectl_ok(&["uncordon", &node])?;
    let (succeeded, text) = drained?;
    ensure!(succeeded, "drain: {text}");
    cluster.condition(&cluster.policies(DEMO), POLICY, "Ready", "True", 3 * MINUTE).await?;
    let server =
        eventually("the server answers", 2 * MINUTE, || async { Ok(Some(demo_server(&cluster).await?)) }).await?;
    nothing_is_missing(&server, interval(&cluster).await?, 60).await
}

/// With the schema and the webhook out of the way, an object that no version of ours can read must not stop the others.
#[tokio::test]
async fn an_object_that_does_not_deserialize_blocks_no_other() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let webhooks = cluster.api(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        None,
    );
    let definitions =
        cluster.api("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", None);
    let definition = definitions.get("collectortargets.reporting.ers.dev").await?;
    let webhook = webhooks
        .list(&Default::default())
        .await?
        .items
        .into_iter()
        .find(|item| item.metadata.name.as_deref().is_some_and(|name| name.contains("ers")))
        .context("our webhook configuration")?;
    let webhook_name = webhook.metadata.name.clone().context("name")?;
    let set_policy = |policy: &'static str| {
        let patches: Vec<Value> = (0..webhook.data["webhooks"].as_array().map_or(0, Vec::len))
            .map(|at| json!({"op": "replace", "path": format!("/webhooks/{at}/rules"), "value": if policy == "off" { json!([]) } else { webhook.data["webhooks"][at]["rules"].clone() }}))
            .collect();
        serde_json::to_string(&patches)
    };
    cluster.kubectl_ok(&[
        "patch",
        "validatingwebhookconfiguration",
        &webhook_name,
        "--type=json",
        "-p",
        &set_policy("off")?,
    ])?;
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    let patch = |schema_value: &Value| {
        serde_json::to_string(&json!([{"op": "replace", "path": schema, "value": schema_value}]))
    };
    let result = async {
        cluster.kubectl_ok(&["patch", "crd", "collectortargets.reporting.ers.dev", "--type=json", "-p", &patch(&open)?])?;
        let broken = json!({"apiVersion": "reporting.ers.dev/v1alpha1", "kind": "CollectorTarget", "metadata": {"name": "broken"}, "spec": {"type": {"no": "sense"}, "node": 42}});
        eventually("the open schema is served", MINUTE / 2, || async { Ok(Some(cluster.apply(&cluster.targets(DEMO), broken.clone()).await?)) }).await?;
        an_edit_is_carried_out(&cluster).await
    }
    .await;
    let removed = cluster.targets(DEMO).delete("broken", &Default::default()).await.map(drop);
    let original = definition.data["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    cluster.kubectl_ok(&[
        "patch",
        "crd",
        "collectortargets.reporting.ers.dev",
        "--type=json",
        "-p",
        &patch(&original)?,
    ])?;
    cluster.kubectl_ok(&[
        "patch",
        "validatingwebhookconfiguration",
        &webhook_name,
        "--type=json",
        "-p",
        &set_policy("on")?,
    ])?;
    result?;
    removed.context("removing the broken object")
}
