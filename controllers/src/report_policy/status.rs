//! What is said about a policy. [`compute`] is pure; [`settle`] asks for the proof and writes.

use std::time::Duration;

use ers_crds::conditions::{self, Condition, ConditionStatus, ConditionUpdate, reasons, types};
use ers_crds::report_policy::{Endpoints, ServerStatus, StorageStatus};
use ers_crds::{ManagementState, ReportPolicy, ReportPolicyStatus};
use ers_model::names::{POLICY_LABEL, admin_secret_name, ca_config_map_name, server_name, server_url};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::dereference::Found;
use super::{KIND, Outcome};
use crate::cache::Key;
use crate::child::{ChildKind, Workload};
use crate::judge::{Refusal, Verdict};
use crate::latch::{self, Seen};
use crate::programmed::programmed;
use crate::queue::Next;
use crate::reconciler::{Reconciler, config_map_text};
use crate::trouble;
use crate::world::World;

/// How soon a server that is not proven yet is asked again at first, and at most.
const FIRST_QUESTION_MS: i64 = 1_000;
const LAST_QUESTION_MS: i64 = 30_000;

/// What the earlier steps found.
pub(super) struct Judged {
    pub verdict: Verdict,
    /// Of the accepted specification; if none was accepted, as the object says.
    pub state: Option<ManagementState>,
    pub in_force_generation: Option<i64>,
    pub outcome: Outcome,
}

/// Everything that a status is computed from.
pub(super) struct Input<'a> {
    pub key: &'a Key,
    pub generation: i64,
    pub before: &'a ReportPolicyStatus,
    pub judged: &'a Judged,
    pub found: &'a Found,
    pub workload: Option<&'a Workload>,
    /// `Ok` when the server's own answer was seen; asked only while the generation is not proven.
    pub proof: Result<(), String>,
    pub progress_since_ms: i64,
    pub gone_since_ms: Option<i64>,
    pub now_ms: i64,
}

/// The operator's part of the status, and in how many milliseconds to look again though nothing changes.
pub(super) fn compute(input: &Input<'_>) -> (ReportPolicyStatus, Option<i64>) {
    let Input { key, generation, before, judged, found, workload, proof, progress_since_ms, gone_since_ms, now_ms } =
        input;
    let (generation, now_ms) = (*generation, *now_ms);
    let mut own = own_conditions(&before.conditions);
    let ready_pods = workload.map_or(0, |workload| workload.ready);
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
                Seen::Gone { message: "no server has been ready for 5 minutes".to_owned(), since_ms: *since_ms }
            }
            None => proven(),
        },
        (Verdict::Accepted, _) => match proof {
            Ok(()) => proven(),
            Err(missing) => Seen::Unproven { message: missing.clone(), since_ms: *progress_since_ms },
        },
    };
    let asks = matches!(seen, Seen::Unproven { .. }) && judged.verdict == Verdict::Accepted;
    let (ready, deadline) = latch::ready(seen, generation, now_ms);
    let next = match (asks, deadline) {
        // Later and later, and once the deadline has passed ever less often.
        (true, deadline) => {
            let waited = now_ms - progress_since_ms;
            Some((waited / 4).clamp(FIRST_QUESTION_MS, LAST_QUESTION_MS).min(deadline.unwrap_or(i64::MAX)))
        }
        (false, deadline) => deadline,
    };
    conditions::set(&mut own, judged.verdict.condition(generation), now_ms);
    let words = judged.outcome.words();
    conditions::set(&mut own, programmed(&words, judged.state, generation, judged.in_force_generation), now_ms);
    conditions::set(&mut own, degraded(input, latched, ready_pods, generation), now_ms);
    conditions::set(&mut own, ready, now_ms);
    let active = match &judged.outcome {
        Outcome::Done(_) => judged.in_force_generation,
        Outcome::Untouched | Outcome::DryRun(_) | Outcome::Failed { .. } => before.active_generation,
    };
    let serves = judged.in_force_generation.is_some();
    let status = ReportPolicyStatus {
        observed_generation: Some(generation),
        active_generation: active,
        conditions: own_conditions(&own),
        server: workload.map(|workload| {
            let count = |number: i32| u32::try_from(number).unwrap_or(0);
            ServerStatus::new(count(ready_pods), count(workload.desired), None)
        }),
        storage: found.claim.as_ref().map(|claim| StorageStatus {
            claim: Some(claim.name.clone()),
            size: Some(claim.capacity.clone().unwrap_or_else(|| claim.requested.clone())),
        }),
        endpoints: serves.then(|| Endpoints {
            server: Some(server_url(&key.namespace, &key.name)),
            ca_config_map: Some(ca_config_map_name(&key.name)),
            admin_secret: Some(admin_secret_name(&key.name)),
        }),
    };
    (status, next)
}

fn proven() -> Seen {
    let message = "the server answers over TLS, and storage, secrets and configuration are ready for this generation";
    Seen::Proven { reason: reasons::PROVEN, message: message.to_owned() }
}

fn degraded(input: &Input<'_>, latched: bool, ready_pods: i32, generation: i64) -> ConditionUpdate {
    let condition =
        |status, reason, message: String| ConditionUpdate::new(types::DEGRADED, status, reason, message, generation);
    let desired = input.workload.map_or(0, |workload| workload.desired);
    if input.gone_since_ms.is_some() && latched {
        let message = "no server is ready; agents keep their samples until one is".to_owned();
        return condition(ConditionStatus::True, reasons::WORKLOAD_UNAVAILABLE, message);
    }
    let refused = matches!(input.judged.verdict, Verdict::Refused(_));
    match (refused, input.judged.in_force_generation.or(input.before.active_generation)) {
        (true, Some(active)) if active < generation => {
            let message = format!("generation {generation} is refused; generation {active} stays in force");
            return condition(ConditionStatus::True, reasons::PREVIOUS_GENERATION_IN_FORCE, message);
        }
        _ => {}
    }
    if latched && ready_pods < desired {
        return condition(
            ConditionStatus::True,
            reasons::PODS_NOT_READY,
            format!("{ready_pods} of {desired} servers are ready"),
        );
    }
    condition(ConditionStatus::False, reasons::AS_EXPECTED, String::new())
}

/// The conditions that the operator writes, in a fixed order.
pub(crate) fn own_conditions(conditions: &[Condition]) -> Vec<Condition> {
    types::OF_OPERATOR.iter().filter_map(|type_| conditions::find(conditions, type_).cloned()).collect()
}

/// Asks for the proof if it is missing, computes and writes.
pub(super) async fn settle(
    world: &World,
    reconciler: &Reconciler,
    key: &Key,
    metadata: &ObjectMeta,
    object: Option<&ReportPolicy>,
    found: &Found,
    judged: Judged,
) -> Result<Next, ()> {
    let before = object.and_then(|object| object.status.clone()).unwrap_or_default();
    let generation = metadata.generation.unwrap_or(0);
    let uid = metadata.uid.clone().unwrap_or_default();
    let now_ms = world.clock.now_ms();
    let stateful_set = Key::new(key.namespace.clone(), server_name(&key.name));
    let state = world.children.get(ChildKind::StatefulSet, &stateful_set);
    let workload = state.as_ref().filter(|_| found.served_by.is_none()).and_then(|state| state.workload.as_ref());
    let proof = match &judged.outcome {
        _ if latch::is_latched(&before.conditions, generation) => Err("proven before".to_owned()),
        Outcome::Done(resources) if judged.verdict == Verdict::Accepted => {
            prove(world, key, workload, &resources.config_hash, &before.conditions, generation).await
        }
        Outcome::Failed { message } => Err(message.clone()),
        _ => Err("nothing was applied".to_owned()),
    };
    reconciler.since.keep_only(&uid, Some(generation));
    let gone_since_ms = if workload.is_some_and(|workload| workload.ready > 0) {
        reconciler.since.is_back(&uid);
        None
    } else {
        Some(reconciler.since.gone(&uid, &before.conditions, now_ms))
    };
    let proven = proof.is_ok() || latch::is_latched(&before.conditions, generation);
    let progress_since_ms = if latch::waits_for_proof(&judged.verdict, judged.state, proven) {
        reconciler.since.progress(&uid, generation, &before.conditions, now_ms)
    } else {
        reconciler.since.waits_no_more(&uid, generation);
        now_ms
    };
    let (status, next) = compute(&Input {
        key,
        generation,
        before: &before,
        judged: &judged,
        found,
        workload,
        proof,
        progress_since_ms,
        gone_since_ms,
        now_ms,
    });
    let own_before = own_conditions(&before.conditions);
    let resource = ApiResource::erase::<ReportPolicy>(&());
    let written = reconciler
        .statuses
        .write(&resource, metadata, (&fields(&before), &own_before), (fields(&status), &status.conditions))
        .await;
    if let Err(error) = written {
        tracing::warn!(kind = KIND, object = %key, error = %error, "the status was not written; trying again");
        return Err(());
    }
    Ok(next.map_or(Next::OnChange, |ms| Next::After(Duration::from_millis(u64::try_from(ms.max(1)).unwrap_or(1)))))
}

/// The fields of the status that the operator owns, besides the conditions.
fn fields(status: &ReportPolicyStatus) -> Value {
    let ReportPolicyStatus { observed_generation, active_generation, conditions: _, server, storage, endpoints } =
        status;
    let mut fields = json!({});
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            fields[name] = value;
        }
    };
    put("observedGeneration", json!(observed_generation));
    put("activeGeneration", json!(active_generation));
    put("server", json!(server));
    put("storage", json!(storage));
    put("endpoints", json!(endpoints));
    fields
}

/// The effect of this generation: the pods run it, the server says that storage, secrets and configuration are right,
/// and it answers over TLS.
async fn prove(
    world: &World,
    key: &Key,
    workload: Option<&Workload>,
    config_hash: &str,
    conditions: &[Condition],
    generation: i64,
) -> Result<(), String> {
    let Some(workload) = workload else { return Err("the server's StatefulSet is not there yet".to_owned()) };
    if workload.config_hash.as_deref() != Some(config_hash) || !workload.is_complete() {
        let count = workload.ready.min(workload.updated);
        let selector = format!("{POLICY_LABEL}={}", key.name);
        let trouble = trouble::first(&world.client, &key.namespace, &selector).await;
        let trouble = trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
        return Err(format!("{count} of {} servers are ready with this configuration{trouble}", workload.desired));
    }
    let ca = Key::new(key.namespace.clone(), ca_config_map_name(&key.name));
    let authority = match config_map_text(&world.client, &ca, "ca.crt").await {
        Ok(Some(authority)) => authority,
        Ok(None) => return Err(format!("the server has not published its authority in ConfigMap `{}` yet", ca.name)),
        Err(error) => {
            return Err(format!("ConfigMap `{}` cannot be read: {}", ca.name, crate::error::message_of(&error)));
        }
    };
    world
        .prover
        .prove(&server_url(&key.namespace, &key.name), &authority)
        .await
        .map_err(|unproven| unproven.to_string())?;
    for type_ in types::OF_SERVER_ON_POLICY {
        if conditions::is_true_for(conditions, type_, generation) {
            continue;
        }
        let told = conditions::find(conditions, type_).map(|condition| condition.message.clone()).unwrap_or_default();
        return Err(format!("the server does not say {type_} for generation {generation} yet: {told}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
