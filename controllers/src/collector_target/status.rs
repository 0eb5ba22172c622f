//! What is said about a target. [`compute`] is pure; [`settle`] asks for the proof and writes.

use std::time::Duration;

use ers_crds::collector_target::CollectorCounts;
use ers_crds::conditions::{self, Condition, ConditionStatus, ConditionUpdate, reasons, types};
use ers_crds::{CollectorTarget, CollectorTargetStatus, ManagementState};
use ers_model::names::{TARGET_LABEL, agent_name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::dereference::Found;
use super::proof::{self, ByCounts, Fleet, Unproven};
use super::{InForce, KIND, Outcome};
use crate::cache::Key;
use crate::child::{ChildKind, Workload};
use crate::error::Class;
use crate::judge::{Refusal, Verdict};
use crate::latch::{self, Seen};
use crate::metrics::ErrorLabels;
use crate::programmed::programmed;
use crate::queue::Next;
use crate::reconciler::Reconciler;
use crate::report_policy::own_conditions;
use crate::trouble;
use crate::world::World;

/// Up to this many agents, their pods are asked what is wrong while they are not proven.
const FEW_AGENTS: i32 = 20;

/// What the earlier steps found.
pub(super) struct Judged {
    pub verdict: Verdict,
    /// Of the accepted specification; if none was accepted, as the object says.
    pub state: Option<ManagementState>,
    pub in_force: Option<InForce>,
    pub outcome: Outcome,
}

/// Everything that a status is computed from.
pub(super) struct Input<'a> {
    pub generation: i64,
    pub before: &'a CollectorTargetStatus,
    pub judged: &'a Judged,
    pub fleet: Option<&'a Fleet>,
    pub workload: Option<&'a Workload>,
    /// Reason and message of the proof, or what is missing; asked only while the generation is not proven.
    pub proof: Result<(&'static str, String), String>,
    pub progress_since_ms: i64,
    pub gone_since_ms: Option<i64>,
    pub now_ms: i64,
}

/// The operator's part of the status, and in how many milliseconds to look again though nothing changes.
pub(super) fn compute(input: &Input<'_>) -> (CollectorTargetStatus, Option<i64>) {
    let Input { generation, before, judged, fleet, workload, proof, progress_since_ms, gone_since_ms, now_ms } = input;
    let (generation, now_ms) = (*generation, *now_ms);
    let latched = latch::is_latched(&before.conditions, generation);
    let seen = match (&judged.verdict, judged.state) {
        (Verdict::Refused(Refusal { reason, message, .. }), _) => Seen::Refused { reason, message: message.clone() },
        (Verdict::Waiting { message, .. }, _) => {
            Seen::Unproven { message: message.clone(), since_ms: *progress_since_ms }
        }
        (Verdict::Accepted, Some(ManagementState::Suspended)) => {
            Seen::Held { reason: reasons::SUSPENDED, message: "suspended: nothing is changed".to_owned() }
        }
        (Verdict::Accepted, Some(ManagementState::DryRun)) => {
            Seen::Held { reason: reasons::DRY_RUN, message: "dry run: see condition Programmed".to_owned() }
        }
        (Verdict::Accepted, _) if latched => match gone_since_ms {
            Some(since_ms) => {
                Seen::Gone { message: "no agent has been ready for 5 minutes".to_owned(), since_ms: *since_ms }
            }
            None => proven_before(&before.conditions),
        },
        (Verdict::Accepted, _) => match proof {
            Ok((reason, message)) => Seen::Proven { reason, message: message.clone() },
            Err(missing) => Seen::Unproven { message: missing.clone(), since_ms: *progress_since_ms },
        },
    };
    let waits_for_nodes = matches!(seen, Seen::Unproven { .. }) && judged.verdict == Verdict::Accepted;
    let (ready, deadline) = latch::ready(seen, generation, now_ms);
    // Everything else that can bring the proof is an event; only a node's minute passes in silence.
    let settles = fleet.and_then(|fleet| fleet.next_settles_ms).filter(|_| waits_for_nodes);
    let next = [deadline, settles].into_iter().flatten().min();
    let mut own = own_conditions(&before.conditions);
    let in_force = judged.in_force.as_ref().map(|current| current.generation);
    conditions::set(&mut own, judged.verdict.condition(generation), now_ms);
    conditions::set(&mut own, programmed(&judged.outcome.words(), judged.state, generation, in_force), now_ms);
    conditions::set(&mut own, degraded(input, latched), now_ms);
    conditions::set(&mut own, ready, now_ms);
    let (active_generation, config_hash) = match &judged.outcome {
        Outcome::Done(resources) => (in_force, Some(resources.config_hash.clone())),
        Outcome::Revoked => (None, None),
        Outcome::Untouched | Outcome::DryRun(_) | Outcome::Failed { .. } => {
            (before.active_generation, before.config_hash.clone())
        }
    };
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let status = CollectorTargetStatus {
        observed_generation: Some(generation),
        active_generation,
        conditions: own_conditions(&own),
        config_hash,
        collectors: workload.map(|workload| {
            CollectorCounts::new(count(workload.desired), count(workload.ready), count(workload.updated))
        }),
        ..CollectorTargetStatus::default()
    };
    (status, next)
}

/// What was said when it was proven is said on: the numbers are those of the proof.
fn proven_before(conditions: &[Condition]) -> Seen {
    let told = conditions::find(conditions, types::READY)
        .filter(|ready| ready.status == ConditionStatus::True && ready.reason == reasons::PROVEN);
    let message =
        told.map_or("the server has acknowledged samples of this generation's agents", |ready| &ready.message);
    Seen::Proven { reason: reasons::PROVEN, message: message.to_owned() }
}

fn degraded(input: &Input<'_>, latched: bool) -> ConditionUpdate {
    let generation = input.generation;
    let condition =
        |status, reason, message: String| ConditionUpdate::new(types::DEGRADED, status, reason, message, generation);
    if input.gone_since_ms.is_some() && latched {
        let message = "no agent is ready: either none runs, or the server acknowledges nothing".to_owned();
        return condition(ConditionStatus::True, reasons::WORKLOAD_UNAVAILABLE, message);
    }
    let accepted = input.judged.verdict == Verdict::Accepted;
    if let (false, Some(current)) = (accepted, &input.judged.in_force)
        && current.generation < generation
    {
        let message =
            format!("generation {generation} is not accepted; generation {} stays in force", current.generation);
        return condition(ConditionStatus::True, reasons::PREVIOUS_GENERATION_IN_FORCE, message);
    }
    match input.workload {
        Some(workload) if latched && workload.ready < workload.desired => {
            let message = format!("{} of {} agents are ready", workload.ready, workload.desired);
            condition(ConditionStatus::True, reasons::PODS_NOT_READY, message)
        }
        _ => condition(ConditionStatus::False, reasons::AS_EXPECTED, String::new()),
    }
}

/// Asks for the proof if it is missing, computes and writes.
pub(super) async fn settle(
    world: &World,
    reconciler: &Reconciler,
    key: &Key,
    metadata: &ObjectMeta,
    object: Option<&CollectorTarget>,
    found: &Found,
    judged: Judged,
) -> Result<Next, ()> {
    let before = object.and_then(|object| object.status.clone()).unwrap_or_default();
    let generation = metadata.generation.unwrap_or(0);
    let uid = metadata.uid.clone().unwrap_or_default();
    let now_ms = world.clock.now_ms();
    let workload_key = Key::new(key.namespace.clone(), agent_name(&key.name));
    let state = [ChildKind::DaemonSet, ChildKind::Deployment]
        .into_iter()
        .find_map(|kind| world.children.get(kind, &workload_key));
    let workload = state.as_ref().filter(|state| !state.deleting).and_then(|state| state.workload.as_ref());
    let fleet = judged.in_force.as_ref().and_then(|current| Fleet::of(&current.target, &found.nodes, now_ms));
    let missing = |message: &str| Err(Unproven::Missing(message.to_owned()));
    let proof = match &judged.outcome {
        _ if latch::is_latched(&before.conditions, generation) => missing("proven before"),
        Outcome::Done(resources) if judged.verdict == Verdict::Accepted => {
            prove(world, key, fleet.as_ref(), workload, &resources.config_hash).await
        }
        Outcome::Failed { message } => missing(message),
        _ => missing("nothing was applied"),
    };
    let not_asked = match &proof {
        Err(error @ Unproven::NotListed(_)) => Some(error.to_string()),
        _ => None,
    };
    reconciler.since.keep_only(&uid, Some(generation));
    let should_run = fleet.as_ref().is_none_or(|fleet| fleet.ready > 0);
    let gone_since_ms = if should_run && workload.is_none_or(|workload| workload.ready == 0) {
        Some(reconciler.since.gone(&uid, &before.conditions, now_ms))
    } else {
        reconciler.since.is_back(&uid);
        None
    };
    let proven = proof.is_ok() || latch::is_latched(&before.conditions, generation);
    let progress_since_ms = if latch::waits_for_proof(&judged.verdict, judged.state, proven) {
        reconciler.since.progress(&uid, generation, &before.conditions, now_ms)
    } else {
        reconciler.since.waits_no_more(&uid, generation);
        now_ms
    };
    let (status, next) = compute(&Input {
        generation,
        before: &before,
        judged: &judged,
        fleet: fleet.as_ref(),
        workload,
        proof: proof.map_err(|unproven| unproven.to_string()),
        progress_since_ms,
        gone_since_ms,
        now_ms,
    });
    let own_before = own_conditions(&before.conditions);
    let resource = ApiResource::erase::<CollectorTarget>(&());
    let written = reconciler
        .statuses
        .write(&resource, metadata, (&fields(&before), &own_before), (fields(&status), &status.conditions))
        .await;
    if let Err(error) = written {
        tracing::warn!(kind = KIND, object = %key, error = %error, "the status was not written; trying again");
        return Err(());
    }
    if let Some(error) = not_asked {
        world.metrics.errors.get_or_create(&ErrorLabels { kind: KIND, class: Class::Transient.as_str() }).inc();
        tracing::warn!(kind = KIND, object = %key, error, "the proof could not be asked for; trying again");
        return Err(());
    }
    Ok(next.map_or(Next::OnChange, |ms| Next::After(Duration::from_millis(u64::try_from(ms.max(1)).unwrap_or(1)))))
}

async fn prove(
    world: &World,
    key: &Key,
    fleet: Option<&Fleet>,
    workload: Option<&Workload>,
    config_hash: &str,
) -> Result<(&'static str, String), Unproven> {
    match proof::by_counts(fleet, workload, config_hash) {
        ByCounts::Proven(reason, message) => Ok((reason, message)),
        ByCounts::Unproven(message) => {
            // On a large fleet this would be asked with every pod that gets ready; there the counts have to do.
            let few =
                workload.is_some_and(|workload| workload.ready < workload.desired && workload.desired <= FEW_AGENTS);
            let selector = format!("{TARGET_LABEL}={}", key.name);
            let trouble = if few { trouble::first(&world.client, &key.namespace, &selector).await } else { None };
            Err(Unproven::Missing(match trouble {
                Some(trouble) => format!("{message}; {trouble}"),
                None => message,
            }))
        }
        ByCounts::AskPods => {
            let Some(fleet) = fleet else { return Err(Unproven::Missing("there is no fleet to ask".to_owned())) };
            proof::by_pods(&world.client, key, fleet, config_hash).await.map(|message| (reasons::PROVEN, message))
        }
    }
}

/// The fields of the status that the operator owns, besides the conditions.
fn fields(status: &CollectorTargetStatus) -> Value {
    let CollectorTargetStatus {
        observed_generation,
        active_generation,
        conditions: _,
        config_hash,
        collectors,
        targets: _,
        failing: _,
        truncated: _,
    } = status;
    let mut fields = json!({});
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            fields[name] = value;
        }
    };
    put("observedGeneration", json!(observed_generation));
    put("activeGeneration", json!(active_generation));
    put("configHash", json!(config_hash));
    put("collectors", json!(collectors));
    fields
}

#[cfg(test)]
mod tests;
