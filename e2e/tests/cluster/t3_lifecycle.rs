//! Objects come, change and go: rollouts, a bad edit, and both orders of removal.

use anyhow::{Context, Result, ensure};
use ers_e2e::{Cluster, ServerApi, eventually};
use serde_json::json;

use crate::{DEMO, MINUTE, NODES, host_access_labels, node_target, policy};

#[tokio::test]
async fn a_changed_configuration_rolls_the_agents_and_ready_follows() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let targets = cluster.targets(DEMO);
    let before = targets.get(NODES).await?;
    let hash = before.data["status"]["configHash"].clone();
    let interval = before.data["spec"]["intervalSeconds"].as_u64().context("intervalSeconds")?;
    for wanted in [interval + 1, interval] {
        cluster.merge(&targets, NODES, json!({"spec": {"intervalSeconds": wanted}})).await?;
        cluster.condition(&targets, NODES, "Ready", "True", 2 * MINUTE).await?;
        let status = targets.get(NODES).await?.data["status"].clone();
        let pods = cluster.pods(DEMO, &format!("reporting.ers.dev/target={NODES}")).await?;
        for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let runs =
                pod.metadata.annotations.as_ref().and_then(|all| all.get("reporting.ers.dev/config-hash").cloned());
            ensure!(
                runs.as_deref() == status["configHash"].as_str(),
                "pod runs {runs:?}, status says {}",
                status["configHash"]
            );
        }
        ensure!((status["configHash"] == hash) == (wanted == interval), "the hash is that of the configuration");
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_edit_leaves_the_previous_generation_in_force() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = "e2e-bad-edit";
    cluster.create_namespace(namespace, host_access_labels()).await?;
    let (policies, targets) = (cluster.policies(namespace), cluster.targets(namespace));
    cluster.apply(&policies, policy("p")).await?;
    cluster.apply(&targets, node_target("t")).await?;
    cluster.condition(&targets, "t", "Ready", "True", 3 * MINUTE).await?;
    let good = targets.get("t").await?;
    // Admission refuses what is invalid in itself; a reference to a policy that is not there is valid, and waits.
    cluster.merge(&targets, "t", json!({"spec": {"reportPolicyRef": {"name": "absent"}}})).await?;
    let accepted = cluster.condition(&targets, "t", "Accepted", "Unknown", MINUTE).await?;
    ensure!(accepted["reason"] == "RefNotFound", "{accepted}");
    let bad = targets.get("t").await?;
    ensure!(bad.data["status"]["activeGeneration"] == good.metadata.generation.unwrap_or(0), "{}", bad.data["status"]);
    ensure!(bad.data["status"]["configHash"] == good.data["status"]["configHash"], "the agents' configuration moved");
    let daemon_sets = cluster.api("apps", "v1", "DaemonSet", "daemonsets", Some(namespace));
    ensure!(daemon_sets.get("t-agent").await?.data["status"]["numberReady"].as_u64() >= Some(1), "the agents run on");
    // A second policy in the namespace is refused with its reason, and does not disturb the first.
    cluster.apply(&policies, policy("second")).await?;
    let accepted = cluster.condition(&policies, "second", "Accepted", "False", MINUTE).await?;
    ensure!(accepted["message"].as_str().is_some_and(|message| message.contains('p')), "{accepted}");
    cluster.condition(&policies, "p", "Ready", "True", MINUTE).await?;
    cluster.delete_namespace(namespace, 2 * MINUTE).await
}

#[tokio::test]
async fn objects_first_then_the_namespace_leaves_nothing() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = "e2e-objects-first";
    cluster.create_namespace(namespace, host_access_labels()).await?;
    let (policies, targets) = (cluster.policies(namespace), cluster.targets(namespace));
    cluster.apply(&policies, policy("p")).await?;
    cluster.apply(&targets, node_target("t")).await?;
    cluster.condition(&targets, "t", "Ready", "True", 3 * MINUTE).await?;
    let server = ServerApi::log_in(&cluster, namespace, "p").await?;
    let boot = eventually("a sample", MINUTE, || async {
        Ok(Some(server.value("min(min_over_time(timestamp(node_load1)[1h:5s]))").await?))
    })
    .await?;
    targets.delete("t", &Default::default()).await?;
    policies.delete("p", &Default::default()).await?;
    eventually("no child is left but the volume", 2 * MINUTE, || async {
        let (_, left) = cluster.kubectl(&[
            "-n",
            namespace,
            "get",
            "statefulset,daemonset,service,serviceaccount,rolebinding,pod,networkpolicy",
            "-l",
            "app.kubernetes.io/managed-by=ers-operator",
            "-o",
            "name",
        ])?;
        ensure!(left.trim().is_empty() || left.contains("No resources"), "left: {left}");
        Ok(Some(()))
    })
    .await?;
    let claims = cluster.core("PersistentVolumeClaim", "persistentvolumeclaims", namespace);
    ensure!(claims.get_opt("data-p-server-0").await?.is_some(), "onDelete: Retain keeps the volume");
    // The same name adopts the volume, with what is in it.
    cluster.apply(&policies, policy("p")).await?;
    cluster.condition(&policies, "p", "Ready", "True", 3 * MINUTE).await?;
    let server = ServerApi::log_in(&cluster, namespace, "p").await?;
    let first = server.value("min(min_over_time(timestamp(node_load1)[1h:5s]))").await?;
    ensure!((first - boot).abs() < 6.0, "the old samples are there: first at {first}, was {boot}");
    cluster.delete_namespace(namespace, 2 * MINUTE).await
}

#[tokio::test]
async fn the_operator_first_then_the_namespace_hangs_nowhere() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = "e2e-operator-first";
    cluster.create_namespace(namespace, host_access_labels()).await?;
    cluster.apply(&cluster.policies(namespace), policy("p")).await?;
    cluster.apply(&cluster.targets(namespace), node_target("t")).await?;
    cluster.condition(&cluster.targets(namespace), "t", "Ready", "True", 3 * MINUTE).await?;
    cluster.kubectl_ok(&["-n", "ers-system", "scale", "deployment/ers-operator", "--replicas=0"])?;
    let gone = eventually("the operator is gone", MINUTE, || async {
        ensure!(cluster.pods("ers-system", "app.kubernetes.io/name=ers-operator").await?.is_empty(), "pods");
        Ok(Some(()))
    })
    .await;
    let deleted = cluster.delete_namespace(namespace, 2 * MINUTE).await;
    cluster.kubectl_ok(&["-n", "ers-system", "scale", "deployment/ers-operator", "--replicas=2"])?;
    cluster.kubectl_ok(&["-n", "ers-system", "rollout", "status", "deployment/ers-operator", "--timeout=120s"])?;
    gone.and(deleted)
}

#[tokio::test]
async fn a_namespace_without_the_label_is_told_so() -> Result<()> {
    let cluster = Cluster::connect().await?;
    let namespace = "e2e-not-allowed";
    cluster.create_namespace(namespace, json!({})).await?;
    cluster.apply(&cluster.policies(namespace), policy("p")).await?;
    cluster.apply(&cluster.targets(namespace), node_target("t")).await?;
    let accepted = cluster.condition(&cluster.targets(namespace), "t", "Accepted", "False", MINUTE).await?;
    ensure!(accepted["reason"] == "NamespaceNotAllowed", "{accepted}");
    // The label comes: no further edit is needed.
    cluster.kubectl_ok(&[
        "label",
        "namespace",
        namespace,
        "reporting.ers.dev/host-access=allowed",
        "pod-security.kubernetes.io/enforce=restricted",
    ])?;
    eventually("the reason is now Pod Security", MINUTE, || async {
        let object = cluster.targets(namespace).get("t").await?;
        let accepted = ers_e2e::cluster::condition_of(&object, "Accepted").context("Accepted")?;
        ensure!(accepted["status"] == "False" && accepted["reason"] == "PodSecurity", "{accepted}");
        Ok(Some(()))
    })
    .await?;
    // A restricted namespace admits everything but the agent.
    cluster.condition(&cluster.policies(namespace), "p", "Ready", "True", 3 * MINUTE).await?;
    cluster.delete_namespace(namespace, 2 * MINUTE).await
}
