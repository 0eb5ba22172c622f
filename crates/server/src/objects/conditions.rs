//! What the server says of its objects, computed purely: facts in, conditions out. No message holds a figure that moves while the meaning does not.

use ers_crds::ManagementState;
use ers_crds::collector_target::{FailingTarget, TargetCounts};
use ers_crds::conditions::{ConditionStatus, ConditionUpdate, reasons, types};
use ers_source::{Collection, StatusUpdate};

use super::secrets::SecretsFact;
use super::{KnownPolicy, KnownTarget};
use crate::overview::targets::TargetRow;
use crate::samples::StorageFact;

/// Reasons of a failed scrape that are limits of the target itself.
const LIMIT_REASONS: [&str; 3] = ["too_many_series", "too_many_labels", "body_too_long"];

/// Whether this process runs the boot settings that a policy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// The same, or the policy's server is no matter of boot settings here.
    Same,
    /// Others are wanted: the operator rolls them out.
    Other,
}

/// None while nothing is known of the policy.
pub fn of_policy(
    known: &KnownPolicy,
    boot: &Boot,
    storage: &StorageFact,
    secrets: &SecretsFact,
) -> Option<StatusUpdate> {
    let generation =
        newest_generation(known.object.as_ref().and_then(|object| object.metadata.generation), known.refusal.as_ref())?;
    let condition = |type_, (status, reason, message): (ConditionStatus, &'static str, String)| {
        ConditionUpdate::new(type_, status, reason, message, generation)
    };
    Some(StatusUpdate {
        conditions: vec![
            condition(types::LOADED, loaded(known, boot)),
            condition(types::STORAGE_READY, storage_ready(storage)),
            condition(types::SECRETS_READY, secrets_ready(secrets)),
        ],
        ..StatusUpdate::default()
    })
}

pub fn newest_generation(object: Option<i64>, refusal: Option<&super::Refusal>) -> Option<i64> {
    object.into_iter().chain(refusal.map(|refusal| refusal.generation)).max()
}

type Judgement = (ConditionStatus, &'static str, String);

fn loaded(known: &KnownPolicy, boot: &Boot) -> Judgement {
    if let Some(refusal) = &known.refusal {
        return (ConditionStatus::False, reasons::LOAD_FAILED, refusal.error.clone());
    }
    match boot {
        Boot::Same => (ConditionStatus::True, reasons::LOADED, "the server runs these settings".to_owned()),
        Boot::Other => (
            ConditionStatus::Unknown,
            reasons::PROGRESSING,
            "the settings need a restart of the server, which the operator does".to_owned(),
        ),
    }
}

fn storage_ready(fact: &StorageFact) -> Judgement {
    match fact {
        StorageFact::Unknown => (ConditionStatus::Unknown, reasons::PENDING, "not looked at yet".to_owned()),
        StorageFact::Works => {
            (ConditionStatus::True, reasons::WRITTEN_AND_READ_BACK, "the stores wrote and read back".to_owned())
        }
        StorageFact::Full(why) => (ConditionStatus::False, reasons::STORAGE_FULL, why.clone()),
        StorageFact::Failed(why) => (ConditionStatus::False, reasons::STORAGE_FAILED, why.clone()),
    }
}

fn secrets_ready(fact: &SecretsFact) -> Judgement {
    match fact {
        SecretsFact::Unknown => (ConditionStatus::Unknown, reasons::PENDING, "not looked at yet".to_owned()),
        SecretsFact::NoneNamed => {
            (ConditionStatus::True, reasons::NO_SECRETS, "the policy names no secrets".to_owned())
        }
        SecretsFact::Resolved(count) => {
            (ConditionStatus::True, reasons::SECRETS_RESOLVED, format!("{count} of {count} secrets can be read"))
        }
        SecretsFact::Missing(which) => (ConditionStatus::False, reasons::SECRET_NOT_FOUND, which.clone()),
        SecretsFact::Unreadable(which) => (ConditionStatus::False, reasons::SECRET_UNREADABLE, which.clone()),
    }
}

/// What came of one target.
#[derive(Clone, Debug, Default)]
pub struct Arrived {
    /// Of this target only, with recent samples.
    pub rows: Vec<TargetRow>,
    /// Samples came at some time.
    pub ever: bool,
    /// The server has not run long enough for silence to mean anything.
    pub just_started: bool,
}

/// None while nothing is known of the target.
pub fn of_target(known: &KnownTarget, arrived: &Arrived) -> Option<StatusUpdate> {
    let generation =
        newest_generation(known.object.as_ref().and_then(|object| object.metadata.generation), known.refusal.as_ref())?;
    let down: Vec<&TargetRow> = arrived.rows.iter().filter(|row| !row.up).collect();
    let up = arrived.rows.len() - down.len();
    let failing: Vec<FailingTarget> = down
        .iter()
        .map(|row| FailingTarget {
            job: row.job.clone(),
            instance: row.instance.clone(),
            reason: row.reason.clone().unwrap_or_else(|| "unknown".to_owned()),
        })
        .collect();
    let state = known.active.as_ref().map(|active| active.management_state);
    let collecting = collecting(arrived, &down, state);
    let counts = TargetCounts::new(count(up), count(down.len()), 0);
    let mut update = StatusUpdate::default();
    if let Some((status, reason, message)) = collecting {
        update.conditions.push(ConditionUpdate::new(types::COLLECTING, status, reason, message, generation));
        update.collection = Some(Collection { targets: counts, failing });
    }
    Some(update)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// None: what was said before stays.
fn collecting(arrived: &Arrived, down: &[&TargetRow], state: Option<ManagementState>) -> Option<Judgement> {
    if arrived.rows.is_empty() {
        return match state {
            Some(ManagementState::Suspended) => {
                Some((ConditionStatus::Unknown, reasons::SUSPENDED, "the target is suspended".to_owned()))
            }
            Some(ManagementState::DryRun) => {
                Some((ConditionStatus::Unknown, reasons::DRY_RUN, "a dry run collects nothing".to_owned()))
            }
            _ if !arrived.ever => Some((ConditionStatus::Unknown, reasons::PENDING, "no samples came yet".to_owned())),
            _ if arrived.just_started => None,
            _ => Some((
                ConditionStatus::False,
                reasons::NO_RECENT_SAMPLES,
                "no samples came within 5 minutes; look at the agents' pods and their logs".to_owned(),
            )),
        };
    }
    let limit = down.iter().find(|row| row.reason.as_deref().is_some_and(|reason| LIMIT_REASONS.contains(&reason)));
    if let Some(row) = limit {
        let reason = row.reason.as_deref().unwrap_or_default();
        return Some((
            ConditionStatus::False,
            reasons::LIMIT_EXCEEDED,
            format!("{} of job {} is over a limit of this target ({reason}); see spec.limits", row.instance, row.job),
        ));
    }
    if down.is_empty() {
        return Some((ConditionStatus::True, reasons::SAMPLES_ARRIVE, "samples arrive from all targets".to_owned()));
    }
    let message = format!("{} of {} targets fail; see status.failing", down.len(), arrived.rows.len());
    Some((ConditionStatus::True, reasons::SOME_TARGETS_DOWN, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Refusal;

    fn row(instance: &str, up: bool, reason: Option<&str>) -> TargetRow {
        TargetRow {
            target: "nodes".to_owned(),
            job: "kubelet".to_owned(),
            instance: instance.to_owned(),
            up,
            last_scrape_ms: 1,
            scrape_duration_seconds: None,
            samples: None,
            reason: reason.map(str::to_owned),
        }
    }

    fn known() -> KnownTarget {
        KnownTarget { refusal: Some(Refusal { generation: 3, error: "x".to_owned() }), ..KnownTarget::default() }
    }

    #[track_caller]
    fn collecting_is(arrived: Arrived, expected: Option<(ConditionStatus, &str)>) {
        let update = of_target(&known(), &arrived).unwrap();
        let found = update.conditions.first().map(|condition| (condition.status, condition.reason));
        assert_eq!(found, expected);
        assert!(update.conditions.iter().all(|condition| condition.observed_generation == 3));
    }

    #[test]
    fn collecting_follows_what_arrives() {
        use ConditionStatus::{False, True, Unknown};
        let rows = |rows: Vec<TargetRow>| Arrived { rows, ever: true, just_started: false };
        collecting_is(Arrived::default(), Some((Unknown, "Pending")));
        collecting_is(rows(vec![]), Some((False, "NoRecentSamples")));
        collecting_is(Arrived { ever: true, just_started: true, rows: vec![] }, None);
        collecting_is(rows(vec![row("a", true, None)]), Some((True, "SamplesArrive")));
        collecting_is(
            rows(vec![row("a", true, None), row("b", false, Some("timeout"))]),
            Some((True, "SomeTargetsDown")),
        );
        collecting_is(rows(vec![row("a", false, Some("too_many_series"))]), Some((False, "LimitExceeded")));
    }

    #[test]
    fn counts_and_failures_are_told() {
        let arrived = Arrived {
            rows: vec![row("a", true, None), row("b", false, Some("timeout"))],
            ever: true,
            just_started: false,
        };
        let collection = of_target(&known(), &arrived).unwrap().collection.unwrap();
        assert_eq!(collection.targets, TargetCounts::new(1, 1, 0));
        assert_eq!(collection.failing.len(), 1);
        assert_eq!((collection.failing[0].instance.as_str(), collection.failing[0].reason.as_str()), ("b", "timeout"));
    }

    #[test]
    fn a_policy_gets_its_three_conditions_for_the_newest_generation() {
        let known = KnownPolicy {
            refusal: Some(Refusal { generation: 2, error: "spec.x: bad".to_owned() }),
            ..KnownPolicy::default()
        };
        let full = StorageFact::Full("no room".to_owned());
        let update = of_policy(&known, &Boot::Same, &full, &SecretsFact::Resolved(2)).unwrap();
        let found: Vec<(&str, ConditionStatus, &str)> =
            update.conditions.iter().map(|condition| (condition.type_, condition.status, condition.reason)).collect();
        assert_eq!(
            found,
            [
                ("Loaded", ConditionStatus::False, "LoadFailed"),
                ("StorageReady", ConditionStatus::False, "StorageFull"),
                ("SecretsReady", ConditionStatus::True, "SecretsResolved"),
            ]
        );
        assert_eq!(
            of_policy(&KnownPolicy::default(), &Boot::Same, &full, &SecretsFact::Unknown),
            None,
            "nothing to write to"
        );
    }
}
