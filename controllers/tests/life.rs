//! The life of a policy and a target against an API server in memory, on a virtual clock.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Fake, start};
use tokio::time::{Instant, sleep};

const POLICIES: &str = "/apis/reporting.ers.dev/v1alpha1/reportpolicies";
const TARGETS: &str = "/apis/reporting.ers.dev/v1alpha1/collectortargets";
const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/pods";
const CONFIG_MAPS: &str = "/api/v1/configmaps";
const STATEFUL_SETS: &str = "/apis/apps/v1/statefulsets";
const DAEMON_SETS: &str = "/apis/apps/v1/daemonsets";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// A namespace that permits host access, one Ready node, and the operator's own role.
fn cluster() -> Fake {
    let fake = Fake::new();
    fake.edit("/api/v1/namespaces", "", "demo", |object| {
        object["metadata"]["labels"] = json!({"reporting.ers.dev/host-access": "allowed"});
    });
    node(&fake);
    fake.edit("/apis/rbac.authorization.k8s.io/v1/clusterroles", "", "ers-operator", |_| {});
    fake
}

fn node(fake: &Fake) {
    fake.edit(NODES, "", "n1", |object| {
        object["metadata"]["labels"] = json!({"kubernetes.io/os": "linux"});
        object["status"] = json!({
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2025-06-15T14:00:00Z"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.5"}],
        });
    });
}

fn objects(fake: &Fake) {
    fake.edit(POLICIES, "demo", "reporting", |object| {
        object["apiVersion"] = json!("reporting.ers.dev/v1alpha1");
        object["kind"] = json!("ReportPolicy");
        object["spec"] = json!({});
    });
    fake.edit(TARGETS, "demo", "nodes", |object| {
        object["apiVersion"] = json!("reporting.ers.dev/v1alpha1");
        object["kind"] = json!("CollectorTarget");
        object["spec"] = json!({"type": "Node", "node": {"sources": [
            {"name": "host", "kind": "HostMetrics"}, {"name": "kubelet", "kind": "Kubelet"},
        ]}});
    });
}

/// What Kubernetes' own controllers, the server and the agents do in the end.
fn everybody_works(fake: &Fake) {
    fake.edit(STATEFUL_SETS, "demo", "reporting-server", |object| {
        let generation = object["metadata"]["generation"].clone();
        object["status"] =
            json!({"observedGeneration": generation, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1});
    });
    fake.edit(DAEMON_SETS, "demo", "nodes-agent", |object| {
        let generation = object["metadata"]["generation"].clone();
        object["status"] = json!({
            "observedGeneration": generation, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 1,
            "currentNumberScheduled": 1, "numberMisscheduled": 0,
        });
    });
    fake.edit(CONFIG_MAPS, "demo", "reporting-ca", |object| object["data"] = json!({"ca.crt": "PEM"}));
    let generation = fake.object(POLICIES, "demo", "reporting").expect("policy")["metadata"]["generation"].clone();
    fake.edit(POLICIES, "demo", "reporting", |object| {
        let conditions = object["status"]["conditions"].as_array_mut().expect("the operator was here first");
        for type_ in ["Loaded", "StorageReady", "SecretsReady"] {
            conditions.retain(|condition| condition["type"] != type_);
            conditions.push(json!({
                "type": type_, "status": "True", "reason": "Ok", "message": "", "observedGeneration": generation,
                "lastTransitionTime": "2025-06-15T15:06:40Z",
            }));
        }
    });
}

fn condition(fake: &Fake, collection: &str, name: &str, type_: &str) -> (String, String) {
    let object = fake.object(collection, "demo", name).expect("object");
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_).cloned().unwrap_or(Value::Null);
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[track_caller]
fn check(fake: &Fake, collection: &str, name: &str, type_: &str, status: &str, reason: &str) {
    assert_eq!(condition(fake, collection, name, type_), (status.to_owned(), reason.to_owned()), "{name} {type_}");
}

async fn settle() {
    sleep(Duration::from_secs(30)).await;
}

/// Both objects, proven and at rest.
async fn proven() -> (Fake, Instant, tokio::task::JoinHandle<()>) {
    let fake = cluster();
    objects(&fake);
    let began = Instant::now();
    let operator = start(&fake, began);
    settle().await;
    everybody_works(&fake);
    settle().await;
    check(&fake, POLICIES, "reporting", "Ready", "True", "Proven");
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
    sleep(Duration::from_secs(60)).await;
    fake.take_writes();
    (fake, began, operator)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ready_before_it_is_proven() {
    let fake = cluster();
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    settle().await;
    for (collection, name) in [(POLICIES, "reporting"), (TARGETS, "nodes")] {
        check(&fake, collection, name, "Accepted", "True", "Valid");
        check(&fake, collection, name, "Programmed", "True", "Applied");
        check(&fake, collection, name, "Ready", "Unknown", "Progressing");
    }
    sleep(Duration::from_secs(600)).await;
    for (collection, name) in [(POLICIES, "reporting"), (TARGETS, "nodes")] {
        check(&fake, collection, name, "Ready", "False", "ProgressDeadlineExceeded");
    }
    everybody_works(&fake);
    settle().await;
    check(&fake, POLICIES, "reporting", "Ready", "True", "Proven");
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
}

#[tokio::test(start_paused = true)]
async fn at_rest_every_timer_of_an_hour_passes_without_a_write_or_a_question() {
    let (fake, _, _operator) = proven().await;
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(fake.take_writes(), Vec::<String>::new());
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(fake.reads(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_a_node_changes_nothing() {
    let (fake, _, _operator) = proven().await;
    for second in 0..10 {
        fake.edit(NODES, "", "n1", |object| {
            object["status"]["conditions"][0]["lastHeartbeatTime"] = json!(format!("2025-06-15T16:00:0{second}Z"));
        });
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!((fake.take_writes(), fake.reads()), (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_operator_finds_everything_right_and_writes_nothing_but_a_dry_run() {
    let (fake, began, operator) = proven().await;
    operator.abort();
    let _operator = start(&fake, began);
    sleep(Duration::from_secs(3_600)).await;
    let writes = fake.take_writes();
    assert!(writes.iter().all(|write| write.contains("dryRun=All")), "{writes:#?}");
}

#[tokio::test(start_paused = true)]
async fn drift_is_reverted_with_one_write_for_each_child() {
    let (fake, _, _operator) = proven().await;
    fake.edit(DAEMON_SETS, "demo", "nodes-agent", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil");
    });
    settle().await;
    let image = &fake.object(DAEMON_SETS, "demo", "nodes-agent").expect("kept")["spec"]["template"]["spec"]["containers"]
        [0]["image"];
    assert_eq!(image, "registry.example.com/ers-agent:0.1.0");
    let writes = fake.take_writes();
    let of_children = writes.iter().filter(|write| write.contains("daemonsets")).count();
    assert_eq!(of_children, 1, "{writes:#?}");
    assert!(fake.remove("/api/v1/services", "demo", "reporting-server").is_some());
    settle().await;
    assert!(fake.object("/api/v1/services", "demo", "reporting-server").is_some());
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
}

#[tokio::test(start_paused = true)]
async fn a_bad_edit_keeps_the_generation_before_even_after_a_restart() {
    let (fake, began, operator) = proven().await;
    let before = fake.object(DAEMON_SETS, "demo", "nodes-agent").expect("children")["spec"].clone();
    fake.edit(TARGETS, "demo", "nodes", |object| object["spec"]["intervalSeconds"] = json!(1));
    settle().await;
    check(&fake, TARGETS, "nodes", "Accepted", "False", "Invalid");
    check(&fake, TARGETS, "nodes", "Ready", "False", "Invalid");
    check(&fake, TARGETS, "nodes", "Degraded", "True", "PreviousGenerationInForce");
    let status = fake.object(TARGETS, "demo", "nodes").expect("target")["status"].clone();
    assert_eq!((&status["observedGeneration"], &status["activeGeneration"]), (&json!(2), &json!(1)));
    operator.abort();
    let _operator = start(&fake, began);
    fake.remove(DAEMON_SETS, "demo", "nodes-agent");
    settle().await;
    let after =
        fake.object(DAEMON_SETS, "demo", "nodes-agent").expect("made again from the last good one")["spec"].clone();
    assert_eq!(after, before);
    // The way back needs nothing but the edit.
    fake.edit(TARGETS, "demo", "nodes", |object| object["spec"]["intervalSeconds"] = json!(15));
    settle().await;
    everybody_works(&fake);
    settle().await;
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_is_told_so_and_stops_nobody() {
    let (fake, _, _operator) = proven().await;
    fake.edit(TARGETS, "demo", "broken", |object| {
        object["spec"] = json!({"type": "Satellite"});
    });
    fake.edit(TARGETS, "demo", "pods", |object| {
        object["spec"] = json!({"type": "Pod", "pod": {"selector": {}, "endpoints": [{"port": "metrics"}]}});
    });
    settle().await;
    check(&fake, TARGETS, "broken", "Accepted", "False", "Unreadable");
    check(&fake, TARGETS, "pods", "Programmed", "True", "Applied");
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
    assert!(fake.object("/apis/apps/v1/deployments", "demo", "pods-agent").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_permission_that_is_taken_away_takes_the_agents_and_their_right_with_it() {
    let (fake, _, _operator) = proven().await;
    let subjects = |fake: &Fake| fake.object(BINDINGS, "", "ers-kubelet-reader").expect("binding")["subjects"].clone();
    assert_eq!(subjects(&fake), json!([{"kind": "ServiceAccount", "namespace": "demo", "name": "nodes-agent"}]));
    fake.edit("/api/v1/namespaces", "", "demo", |object| object["metadata"]["labels"] = json!({}));
    settle().await;
    check(&fake, TARGETS, "nodes", "Accepted", "False", "NamespaceNotAllowed");
    assert!(fake.object(DAEMON_SETS, "demo", "nodes-agent").is_none());
    assert_eq!(subjects(&fake), json!([]));
    check(&fake, POLICIES, "reporting", "Ready", "True", "Proven");
}

#[tokio::test(start_paused = true)]
async fn pod_security_that_refuses_the_agent_is_told_with_its_words() {
    let fake = cluster();
    fake.refuse_pods(Some("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces"));
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    settle().await;
    check(&fake, TARGETS, "nodes", "Accepted", "False", "PodSecurity");
    assert!(fake.object(DAEMON_SETS, "demo", "nodes-agent").is_none());
    fake.refuse_pods(None);
    fake.edit("/api/v1/namespaces", "", "demo", |object| {
        object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("privileged");
    });
    settle().await;
    check(&fake, TARGETS, "nodes", "Programmed", "True", "Applied");
}

#[tokio::test(start_paused = true)]
async fn the_oldest_policy_serves_and_the_next_takes_over_when_it_goes() {
    let (fake, _, _operator) = proven().await;
    fake.edit(POLICIES, "demo", "second", |object| {
        object["metadata"]["creationTimestamp"] = json!("2025-06-15T18:00:00Z");
        object["spec"] = json!({});
    });
    settle().await;
    check(&fake, POLICIES, "second", "Accepted", "False", "PolicyConflict");
    check(&fake, POLICIES, "reporting", "Ready", "True", "Proven");
    assert!(fake.object(STATEFUL_SETS, "demo", "second-server").is_none());
    fake.remove(POLICIES, "demo", "reporting");
    settle().await;
    check(&fake, POLICIES, "second", "Accepted", "True", "Valid");
    assert!(fake.object(STATEFUL_SETS, "demo", "second-server").is_some());
}

#[tokio::test(start_paused = true)]
async fn old_configurations_stay_while_a_revision_names_them_and_go_after() {
    let (fake, _, _operator) = proven().await;
    let of_agents = |fake: &Fake| {
        let names = fake.names(CONFIG_MAPS).into_iter();
        names.filter(|name| name.starts_with("nodes-agent-") && !name.ends_with("-active")).collect::<Vec<_>>()
    };
    let old = of_agents(&fake).pop().expect("one configuration");
    let hash = old.trim_start_matches("nodes-agent-").to_owned();
    let revisions = "/apis/apps/v1/controllerrevisions";
    fake.edit(revisions, "demo", "r1", |object| {
        object["metadata"]["labels"] =
            json!({"reporting.ers.dev/target": "nodes", "reporting.ers.dev/config-hash": hash});
    });
    fake.edit(TARGETS, "demo", "nodes", |object| object["spec"]["intervalSeconds"] = json!(20));
    settle().await;
    assert_eq!(of_agents(&fake).len(), 2, "the old one could come back");
    fake.remove(revisions, "demo", "r1");
    everybody_works(&fake);
    settle().await;
    let left = of_agents(&fake);
    assert!(left.len() == 1 && left[0] != old, "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn an_object_of_the_same_name_that_is_not_ours_is_never_taken_over() {
    let fake = cluster();
    fake.edit("/api/v1/services", "demo", "reporting-server", |object| {
        object["spec"] = json!({"type": "ExternalName"})
    });
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    settle().await;
    check(&fake, POLICIES, "reporting", "Programmed", "False", "ApplyFailed");
    let service = fake.object("/api/v1/services", "demo", "reporting-server").expect("untouched");
    assert_eq!(service["spec"], json!({"type": "ExternalName"}));
}

#[tokio::test(start_paused = true)]
async fn suspended_leaves_everything_as_it_is() {
    let (fake, _, _operator) = proven().await;
    fake.edit(POLICIES, "demo", "reporting", |object| object["spec"]["managementState"] = json!("Suspended"));
    settle().await;
    check(&fake, POLICIES, "reporting", "Ready", "True", "Suspended");
    fake.take_writes();
    fake.remove("/api/v1/services", "demo", "reporting-server");
    settle().await;
    assert_eq!(fake.take_writes(), Vec::<String>::new());
    fake.edit(POLICIES, "demo", "reporting", |object| object["spec"]["managementState"] = json!("Managed"));
    settle().await;
    assert!(fake.object("/api/v1/services", "demo", "reporting-server").is_some());
}

#[tokio::test(start_paused = true)]
async fn agents_that_come_with_the_first_node_have_to_prove_themselves_and_get_their_time() {
    let fake = cluster();
    fake.remove(NODES, "", "n1");
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    settle().await;
    check(&fake, TARGETS, "nodes", "Ready", "True", "NoMatchingNodes");
    sleep(Duration::from_secs(1_200)).await;
    node(&fake);
    settle().await;
    check(&fake, TARGETS, "nodes", "Ready", "Unknown", "Progressing");
    everybody_works(&fake);
    settle().await;
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
    fake.remove(NODES, "", "n1");
    settle().await;
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_an_object_was_refused_does_not_count_against_its_proof() {
    let fake = cluster();
    fake.edit("/api/v1/namespaces", "", "demo", |object| object["metadata"]["labels"] = json!({}));
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    sleep(Duration::from_secs(1_200)).await;
    check(&fake, TARGETS, "nodes", "Ready", "False", "NamespaceNotAllowed");
    fake.edit("/api/v1/namespaces", "", "demo", |object| {
        object["metadata"]["labels"] = json!({"reporting.ers.dev/host-access": "allowed"});
    });
    settle().await;
    check(&fake, TARGETS, "nodes", "Ready", "Unknown", "Progressing");
    sleep(Duration::from_secs(600)).await;
    check(&fake, TARGETS, "nodes", "Ready", "False", "ProgressDeadlineExceeded");
}

#[tokio::test(start_paused = true)]
async fn once_an_object_of_the_same_name_is_out_of_the_way_its_place_is_taken() {
    let fake = cluster();
    fake.edit("/api/v1/serviceaccounts", "demo", "nodes-agent", |object| object["automount"] = json!(false));
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    sleep(Duration::from_secs(1_200)).await;
    check(&fake, TARGETS, "nodes", "Programmed", "False", "ApplyFailed");
    fake.remove("/api/v1/serviceaccounts", "demo", "nodes-agent");
    sleep(Duration::from_secs(330)).await;
    check(&fake, TARGETS, "nodes", "Programmed", "True", "Applied");
}

#[tokio::test(start_paused = true)]
async fn a_bad_edit_of_a_held_object_writes_no_children() {
    for state in ["Suspended", "DryRun"] {
        let (fake, _, _operator) = proven().await;
        for (collection, name) in [(POLICIES, "reporting"), (TARGETS, "nodes")] {
            fake.edit(collection, "demo", name, |object| object["spec"]["managementState"] = json!(state));
        }
        settle().await;
        fake.remove("/api/v1/services", "demo", "reporting-server");
        fake.remove(DAEMON_SETS, "demo", "nodes-agent");
        fake.take_writes();
        fake.edit(POLICIES, "demo", "reporting", |object| {
            object["spec"]["storage"] = json!({"metrics": {"type": "Embedded", "embedded": {"retentionDays": 0}}});
        });
        fake.edit(TARGETS, "demo", "nodes", |object| object["spec"]["intervalSeconds"] = json!(1));
        settle().await;
        check(&fake, POLICIES, "reporting", "Accepted", "False", "Invalid");
        check(&fake, TARGETS, "nodes", "Accepted", "False", "Invalid");
        let writes = fake.take_writes();
        let meant =
            |write: &String| write.ends_with("status") || write.contains("events") || write.contains("dryRun=All");
        assert!(writes.iter().all(meant), "{state}: {writes:#?}");
        check(&fake, POLICIES, "reporting", "Programmed", "Unknown", state);
        check(&fake, TARGETS, "nodes", "Programmed", "Unknown", state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_held_neither_loses_nor_gets_a_right_and_keeps_none_from_others() {
    let subjects = |fake: &Fake, name: &str| {
        fake.object(BINDINGS, "", name).map_or(json!([]), |binding| binding["subjects"].clone())
    };
    let agents = json!([{"kind": "ServiceAccount", "namespace": "demo", "name": "nodes-agent"}]);
    let servers = json!([{"kind": "ServiceAccount", "namespace": "demo", "name": "reporting-server"}]);
    let fake = cluster();
    objects(&fake);
    fake.edit(TARGETS, "demo", "nodes", |object| object["spec"]["managementState"] = json!("DryRun"));
    let _operator = start(&fake, Instant::now());
    settle().await;
    assert_eq!(subjects(&fake, "ers-token-reviewer"), servers);
    assert_eq!(subjects(&fake, "ers-kubelet-reader"), json!([]));
    let (fake, began, operator) = proven().await;
    fake.edit(TARGETS, "demo", "nodes", |object| object["spec"]["managementState"] = json!("DryRun"));
    settle().await;
    assert_eq!(subjects(&fake, "ers-kubelet-reader"), agents, "a dry run changes nothing");
    operator.abort();
    let _operator = start(&fake, began);
    fake.edit(POLICIES, "demo", "reporting", |object| object["metadata"]["labels"] = json!({"a": "b"}));
    settle().await;
    assert_eq!(subjects(&fake, "ers-kubelet-reader"), agents);
    fake.remove(TARGETS, "demo", "nodes");
    settle().await;
    assert_eq!(subjects(&fake, "ers-kubelet-reader"), json!([]));
    assert_eq!(subjects(&fake, "ers-token-reviewer"), servers);
}

#[tokio::test(start_paused = true)]
async fn pods_that_could_not_be_listed_are_asked_for_again() {
    let fake = cluster();
    // A node that is not Ready is excused, so that only the pods tell.
    fake.edit(NODES, "", "n2", |_| {});
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    settle().await;
    let template = &fake.object(DAEMON_SETS, "demo", "nodes-agent").expect("built")["spec"]["template"];
    let labels = template["metadata"]["labels"].clone();
    fake.edit(PODS, "demo", "nodes-agent-x", |object| {
        object["metadata"]["labels"] = labels;
        object["spec"] = json!({"nodeName": "n1", "containers": []});
        object["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    });
    fake.break_lists(Some(PODS));
    fake.edit(DAEMON_SETS, "demo", "nodes-agent", |object| {
        object["status"] = json!({
            "observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 1,
            "currentNumberScheduled": 2, "numberMisscheduled": 0,
        });
    });
    settle().await;
    check(&fake, TARGETS, "nodes", "Ready", "Unknown", "Progressing");
    fake.break_lists(None);
    sleep(Duration::from_secs(60)).await;
    check(&fake, TARGETS, "nodes", "Ready", "True", "Proven");
}

#[tokio::test(start_paused = true)]
async fn a_quota_in_the_way_of_a_dry_run_is_no_answer_about_pod_security() {
    let fake = cluster();
    fake.refuse_pods(Some("pods \"x\" is forbidden: exceeded quota: pods"));
    objects(&fake);
    let _operator = start(&fake, Instant::now());
    settle().await;
    check(&fake, TARGETS, "nodes", "Programmed", "True", "Applied");
    fake.refuse_pods(Some("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces"));
    fake.edit(TARGETS, "demo", "nodes", |object| object["metadata"]["labels"] = json!({"a": "b"}));
    settle().await;
    check(&fake, TARGETS, "nodes", "Accepted", "False", "PodSecurity");
}
