//! The conditions that the operator writes in a cluster, by the same rules: a proof per generation, latched.

use ers_crds::ManagementState;
use ers_crds::conditions::{Condition, ConditionStatus, ConditionUpdate, find, is_true_for, reasons, types};
use ers_source::{Generations, StatusUpdate};

use super::agents::{AgentState, NotWanted};
use crate::objects::{KnownPolicy, KnownTarget, Refusal};

/// The proof must come within this time.
const DEADLINE_MS: i64 = 600_000;
/// A workload that is gone for so long takes Ready with it.
const GONE_MS: i64 = 300_000;

type Judgement = (ConditionStatus, &'static str, String);

/// What is needed beside the object: its status as it is kept, and the time.
pub struct Before<'a> {
    pub conditions: &'a [Condition],
    /// When this generation was first judged.
    pub since_ms: i64,
    pub now_ms: i64,
}

/// Adds `Accepted`, `Programmed`, `Ready` and `Degraded` of the policy. Its `Loaded`, `StorageReady` and `SecretsReady` are in the update already.
pub fn complete_policy(update: &mut StatusUpdate, known: &KnownPolicy, before: &Before<'_>) {
    let newest = known.object.as_ref().and_then(|object| object.metadata.generation);
    let active = known.active.as_ref().map(|active| (active.identity.generation, active.management_state));
    let proven = update.conditions.iter().all(|condition| condition.status == ConditionStatus::True);
    let waiting: Vec<&str> =
        update.conditions.iter().filter(|one| one.status != ConditionStatus::True).map(|one| one.type_).collect();
    let proof = if proven {
        Proof::Proven("the server runs, its stores wrote and read back, its secrets can be read".to_owned())
    } else {
        Proof::Waiting(format!("waiting for {}", waiting.join(", ")))
    };
    complete(update, known.refusal.as_ref(), newest, active, proof, before);
}

/// Adds them for a target, from its agent.
pub fn complete_target(update: &mut StatusUpdate, known: &KnownTarget, agent: Option<AgentState>, before: &Before<'_>) {
    let newest = known.object.as_ref().and_then(|object| object.metadata.generation);
    let active = known.active.as_ref().map(|active| (active.identity.generation, active.management_state));
    let proof = match agent {
        None => Proof::Waiting("the agent is being prepared".to_owned()),
        Some(AgentState::NotWanted(NotWanted::NoMatchingNode)) => Proof::NothingToRun,
        Some(AgentState::NotWanted(NotWanted::NeedsKubernetes)) => {
            Proof::Impossible("spec.type: targets of type Pod need Kubernetes; use type Node here".to_owned())
        }
        Some(AgentState::NotWanted(NotWanted::NoBinary)) => Proof::Waiting(
            "no ers-agent was found: install it beside ers-server or name it with --agent-binary".to_owned(),
        ),
        Some(AgentState::NotWanted(NotWanted::Suspended | NotWanted::DryRun)) => Proof::Waiting(String::new()),
        Some(AgentState::Running { proven: true, .. }) => {
            Proof::Proven("the agent runs this configuration and the server has acknowledged its samples".to_owned())
        }
        Some(AgentState::Running { proven: false, .. }) => {
            Proof::Waiting("the agent runs; none of its samples was acknowledged yet".to_owned())
        }
        Some(AgentState::Down { since_ms, why }) => Proof::Down { since_ms, why },
    };
    complete(update, known.refusal.as_ref(), newest, active, proof, before);
}

enum Proof {
    Proven(String),
    Waiting(String),
    NothingToRun,
    /// The spec asks for what is not possible here.
    Impossible(String),
    Down {
        since_ms: i64,
        why: String,
    },
}

fn complete(
    update: &mut StatusUpdate,
    refusal: Option<&Refusal>,
    newest: Option<i64>,
    active: Option<(i64, ManagementState)>,
    proof: Proof,
    before: &Before<'_>,
) {
    let Some(generation) = crate::objects::conditions::newest_generation(newest, refusal) else { return };
    let impossible = match &proof {
        Proof::Impossible(why) => Some(why.clone()),
        _ => None,
    };
    let refused = refusal.map(|refusal| refusal.error.clone()).or(impossible);
    let accepted = match &refused {
        Some(error) => (ConditionStatus::False, reasons::INVALID, error.clone()),
        None => (ConditionStatus::True, reasons::VALID, "the spec is valid".to_owned()),
    };
    let programmed = programmed(&proof, refused.as_deref());
    let degraded = match (&refused, active) {
        (Some(_), Some((in_force, _))) if in_force < generation => (
            ConditionStatus::True,
            reasons::PREVIOUS_GENERATION_IN_FORCE,
            format!("generation {in_force} stays in force while generation {generation} is refused"),
        ),
        _ => (ConditionStatus::False, reasons::AS_EXPECTED, "as it should be".to_owned()),
    };
    let ready = ready(generation, &proof, refused, active.map(|(_, state)| state), before);
    let mut conditions: Vec<ConditionUpdate> = Vec::with_capacity(update.conditions.len() + 4);
    for (type_, (status, reason, message)) in [
        (types::ACCEPTED, accepted),
        (types::PROGRAMMED, programmed),
        (types::READY, ready),
        (types::DEGRADED, degraded),
    ] {
        conditions.push(ConditionUpdate::new(type_, status, reason, message, generation));
    }
    conditions.append(&mut update.conditions);
    update.conditions = conditions;
    update.generations = Some(Generations { observed: generation, active: active.map(|(in_force, _)| in_force) });
}

fn programmed(proof: &Proof, refused: Option<&str>) -> Judgement {
    if refused.is_some() {
        return (ConditionStatus::False, reasons::INVALID, "the spec is refused".to_owned());
    }
    match proof {
        Proof::Down { why, .. } => (ConditionStatus::False, reasons::APPLY_FAILED, why.clone()),
        _ => (ConditionStatus::True, reasons::APPLIED, "what the spec asks for was set up".to_owned()),
    }
}

fn ready(
    generation: i64,
    proof: &Proof,
    refused: Option<String>,
    state: Option<ManagementState>,
    before: &Before<'_>,
) -> Judgement {
    if let Some(error) = refused {
        return (ConditionStatus::False, reasons::INVALID, error);
    }
    match state {
        Some(ManagementState::Suspended) => {
            return (ConditionStatus::True, reasons::SUSPENDED, "suspended: everything stays as it is".to_owned());
        }
        Some(ManagementState::DryRun) => {
            return (
                ConditionStatus::True,
                reasons::DRY_RUN,
                "a dry run: the spec is valid, nothing is done".to_owned(),
            );
        }
        _ => {}
    }
    let latched = is_true_for(before.conditions, types::READY, generation);
    match proof {
        Proof::Proven(message) => (ConditionStatus::True, reasons::PROVEN, message.clone()),
        Proof::NothingToRun => (
            ConditionStatus::True,
            reasons::NO_MATCHING_NODES,
            "spec.node.nodeSelector does not match this machine, so no agent runs".to_owned(),
        ),
        Proof::Down { since_ms, why } if before.now_ms - since_ms >= GONE_MS => {
            (ConditionStatus::False, reasons::WORKLOAD_UNAVAILABLE, why.clone())
        }
        _ if latched => {
            // The proof holds for the generation; what is amiss now has its own conditions.
            let message = find(before.conditions, types::READY).map(|ready| ready.message.clone()).unwrap_or_default();
            (ConditionStatus::True, reasons::PROVEN, message)
        }
        Proof::Waiting(why) | Proof::Down { why, .. } | Proof::Impossible(why) => {
            if before.now_ms - before.since_ms >= DEADLINE_MS {
                let message = format!("not proven within 10 minutes: {why}");
                return (ConditionStatus::False, reasons::PROGRESS_DEADLINE_EXCEEDED, message);
            }
            (ConditionStatus::Unknown, reasons::PROGRESSING, why.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(conditions: &[Condition], now_ms: i64) -> Before<'_> {
        Before { conditions, since_ms: 0, now_ms }
    }

    #[track_caller]
    fn ready_is(proof: Proof, before: Before<'_>, expected: (ConditionStatus, &str)) {
        let (status, reason, _) = ready(2, &proof, None, Some(ManagementState::Managed), &before);
        assert_eq!((status, reason), expected);
    }

    #[test]
    fn ready_is_a_proof_that_is_latched_per_generation() {
        use ConditionStatus::{False, True, Unknown};
        let mut kept = Vec::new();
        let proven = ConditionUpdate::new(types::READY, True, reasons::PROVEN, "seen", 2);
        ers_crds::conditions::set(&mut kept, proven, 0);
        let waiting = || Proof::Waiting("x".to_owned());
        let down = |since_ms| Proof::Down { since_ms, why: "x".to_owned() };
        ready_is(waiting(), before(&[], 1), (Unknown, "Progressing"));
        ready_is(waiting(), before(&[], DEADLINE_MS), (False, "ProgressDeadlineExceeded"));
        ready_is(Proof::Proven(String::new()), before(&[], DEADLINE_MS), (True, "Proven"));
        ready_is(waiting(), before(&kept, DEADLINE_MS), (True, "Proven"));
        ready_is(down(0), before(&kept, GONE_MS - 1), (True, "Proven"));
        ready_is(down(0), before(&kept, GONE_MS), (False, "WorkloadUnavailable"));
        ready_is(Proof::NothingToRun, before(&[], 1), (True, "NoMatchingNodes"));
    }

    #[test]
    fn a_refused_generation_leaves_the_one_before_in_force() {
        let refusal = Refusal { generation: 3, error: "spec.x: bad".to_owned() };
        let mut update = StatusUpdate::default();
        let active = Some((2, ManagementState::Managed));
        complete(&mut update, Some(&refusal), Some(2), active, Proof::Proven(String::new()), &before(&[], 1));
        let found: Vec<(&str, ConditionStatus, &str)> =
            update.conditions.iter().map(|one| (one.type_, one.status, one.reason)).collect();
        assert_eq!(
            found,
            [
                ("Accepted", ConditionStatus::False, "Invalid"),
                ("Programmed", ConditionStatus::False, "Invalid"),
                ("Ready", ConditionStatus::False, "Invalid"),
                ("Degraded", ConditionStatus::True, "PreviousGenerationInForce"),
            ]
        );
        assert_eq!(update.generations, Some(Generations { observed: 3, active: Some(2) }));
    }
}
