//! Names and reasons of conditions, and the one way to set them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Types of conditions. Each is written by one program only; see `docs/contracts.md`.
pub mod types {
    /// Operator: the spec is valid and permitted.
    pub const ACCEPTED: &str = "Accepted";
    /// Operator: the children in the cluster equal what was built from this generation.
    pub const PROGRAMMED: &str = "Programmed";
    /// Operator: the effect was seen for this generation. A proof, latched per generation.
    pub const READY: &str = "Ready";
    /// Operator: it works, but not as it should; the message says what is missing.
    pub const DEGRADED: &str = "Degraded";
    /// Server: it runs this generation's settings.
    pub const LOADED: &str = "Loaded";
    /// Server: the storage wrote and read back.
    pub const STORAGE_READY: &str = "StorageReady";
    /// Server: every entry of `spec.secrets` could be read.
    pub const SECRETS_READY: &str = "SecretsReady";
    /// Server: samples of this target arrived lately.
    pub const COLLECTING: &str = "Collecting";

    /// What the operator sets on both kinds.
    pub const OF_OPERATOR: [&str; 4] = [ACCEPTED, PROGRAMMED, READY, DEGRADED];
    /// What the server sets on a ReportPolicy.
    pub const OF_SERVER_ON_POLICY: [&str; 3] = [LOADED, STORAGE_READY, SECRETS_READY];
    /// What the server sets on a CollectorTarget.
    pub const OF_SERVER_ON_TARGET: [&str; 1] = [COLLECTING];
}

/// Reasons: CamelCase, stable, made for programs. The message is made for people.
pub mod reasons {
    /// Nothing is known yet; every condition starts with it.
    pub const PENDING: &str = "Pending";
    /// Accepted=True: the spec is valid and permitted.
    pub const VALID: &str = "Valid";
    /// Accepted=False: the spec breaks rules; the message lists field paths and rule ids.
    pub const INVALID: &str = "Invalid";
    /// Accepted=False: the object could not be read as its kind.
    pub const UNREADABLE: &str = "Unreadable";
    /// Accepted=False: the namespace lacks a label that a cluster admin must set.
    pub const NAMESPACE_NOT_ALLOWED: &str = "NamespaceNotAllowed";
    /// Accepted=False: the namespace's Pod Security level refuses the pod.
    pub const POD_SECURITY: &str = "PodSecurity";
    /// Accepted=False: an older ReportPolicy serves this namespace already.
    pub const POLICY_CONFLICT: &str = "PolicyConflict";
    /// Accepted=Unknown: an object that the spec names is not there yet.
    pub const REF_NOT_FOUND: &str = "RefNotFound";
    /// Accepted=False: Kubernetes can't make this change in place, and no safe way around it exists.
    pub const CHANGE_NOT_POSSIBLE: &str = "ChangeNotPossible";
    /// Programmed=True: the children equal what was built.
    pub const APPLIED: &str = "Applied";
    /// Programmed=False: a write failed; it is tried again.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// Unknown until proven.
    pub const PROGRESSING: &str = "Progressing";
    /// Ready=True: the effect was seen for this generation.
    pub const PROVEN: &str = "Proven";
    /// Ready=False: the proof did not come within 10 minutes.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// Ready=False: the object's own workload is gone for 5 minutes.
    pub const WORKLOAD_UNAVAILABLE: &str = "WorkloadUnavailable";
    /// Ready=True: no node matches, so there is nothing to run.
    pub const NO_MATCHING_NODES: &str = "NoMatchingNodes";
    /// `managementState: Suspended`.
    pub const SUSPENDED: &str = "Suspended";
    /// `managementState: DryRun`.
    pub const DRY_RUN: &str = "DryRun";
    /// Degraded=False: as it should be.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// Degraded=True: a newer generation was refused, the one before stays in force.
    pub const PREVIOUS_GENERATION_IN_FORCE: &str = "PreviousGenerationInForce";
    /// Degraded=True: some pods of the workload are not ready.
    pub const PODS_NOT_READY: &str = "PodsNotReady";
    /// Loaded=True.
    pub const LOADED: &str = "Loaded";
    /// Loaded=False: the server refused the settings.
    pub const LOAD_FAILED: &str = "LoadFailed";
    /// StorageReady=True: written and read back.
    pub const WRITTEN_AND_READ_BACK: &str = "WrittenAndReadBack";
    /// StorageReady=False: a write or a read failed.
    pub const STORAGE_FAILED: &str = "StorageFailed";
    /// StorageReady=False: the volume is full.
    pub const STORAGE_FULL: &str = "StorageFull";
    /// SecretsReady=True: every entry of `spec.secrets` was read.
    pub const SECRETS_RESOLVED: &str = "SecretsResolved";
    /// SecretsReady=True: `spec.secrets` is empty.
    pub const NO_SECRETS: &str = "NoSecrets";
    /// SecretsReady=False: a Secret or its key is not there.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// SecretsReady=False: a Secret could not be read.
    pub const SECRET_UNREADABLE: &str = "SecretUnreadable";
    /// Collecting=True: samples arrive.
    pub const SAMPLES_ARRIVE: &str = "SamplesArrive";
    /// Collecting=False: samples came once, but no longer.
    pub const NO_RECENT_SAMPLES: &str = "NoRecentSamples";
    /// Collecting=False: a limit of this target cuts off what it sends.
    pub const LIMIT_EXCEEDED: &str = "LimitExceeded";
    /// Collecting=True, but a part of the target fails; see `status.failing`.
    pub const SOME_TARGETS_DOWN: &str = "SomeTargetsDown";
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }
}

/// One fact about an object, in the shape of `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: String,
    pub status: ConditionStatus,
    /// CamelCase, for programs.
    pub reason: String,
    /// For people; at most 32768 bytes.
    #[serde(default)]
    pub message: String,
    /// RFC 3339, seconds; moves only when `status` does.
    pub last_transition_time: String,
    /// Generation of the spec that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl JsonSchema for Condition {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "What the condition is about, such as `Ready`."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                           "description": "Why, in one CamelCase word, for programs."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, for people, with the way out."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "maxLength": 40,
                                       "description": "When `status` changed last."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0,
                                       "description": "The `metadata.generation` that was judged."},
            },
        })
    }
}

/// What a program wants to say; becomes a [`Condition`] through [`set`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    pub type_: &'static str,
    pub status: ConditionStatus,
    pub reason: &'static str,
    pub message: String,
    pub observed_generation: i64,
}

impl ConditionUpdate {
    pub fn new(
        type_: &'static str,
        status: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
        observed_generation: i64,
    ) -> Self {
        ConditionUpdate { type_, status, reason, message: message.into(), observed_generation }
    }
}

/// Longest message that is written; longer ones are cut at a character and end in `...`.
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// Sets one condition. `lastTransitionTime` becomes `now_ms` (Unix milliseconds, written in whole seconds) only if the
/// status changed or the condition is new. Answers whether anything differs from before.
pub fn set(conditions: &mut Vec<Condition>, update: ConditionUpdate, now_ms: i64) -> bool {
    let ConditionUpdate { type_, status, reason, message, observed_generation } = update;
    let message = shortened(message);
    let Some(known) = conditions.iter_mut().find(|condition| condition.type_ == type_) else {
        conditions.push(Condition {
            type_: type_.to_string(),
            status,
            reason: reason.to_string(),
            message,
            last_transition_time: rfc3339(now_ms),
            observed_generation: Some(observed_generation),
        });
        return true;
    };
    let status_changed = known.status != status;
    let changed = status_changed
        || known.reason != reason
        || known.message != message
        || known.observed_generation != Some(observed_generation);
    if status_changed {
        known.last_transition_time = rfc3339(now_ms);
    }
    known.status = status;
    known.reason = reason.to_string();
    known.message = message;
    known.observed_generation = Some(observed_generation);
    changed
}

/// Sets those of `types` that are not there yet to `Unknown`, reason `Pending`: the first visit names them all.
pub fn set_missing(conditions: &mut Vec<Condition>, types: &[&'static str], generation: i64, now_ms: i64) -> bool {
    let mut changed = false;
    for type_ in types {
        if find(conditions, type_).is_none() {
            let update =
                ConditionUpdate::new(type_, ConditionStatus::Unknown, reasons::PENDING, "not known yet", generation);
            changed |= set(conditions, update, now_ms);
        }
    }
    changed
}

/// The condition of this type, if it is there.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition is True for this very generation.
pub fn is_true_for(conditions: &[Condition], type_: &str, generation: i64) -> bool {
    find(conditions, type_).is_some_and(|condition| {
        condition.status == ConditionStatus::True && condition.observed_generation == Some(generation)
    })
}

fn shortened(message: String) -> String {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message;
    }
    let mut end = MAX_MESSAGE_BYTES - 3;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &message[..end])
}

/// Unix milliseconds as `2026-01-31T12:00:00Z`; years 0 to 9999, outside of which the nearest is taken.
pub fn rfc3339(unix_ms: i64) -> String {
    const YEAR_0: i64 = -62_167_219_200;
    const YEAR_9999_END: i64 = 253_402_300_799;
    let seconds = unix_ms.div_euclid(1000).clamp(YEAR_0, YEAR_9999_END);
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to civil date: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(status: ConditionStatus, reason: &'static str, generation: i64) -> ConditionUpdate {
        ConditionUpdate::new(types::READY, status, reason, "because", generation)
    }

    #[test]
    fn the_time_moves_only_when_the_status_does() {
        let mut conditions = Vec::new();
        assert!(set(&mut conditions, update(ConditionStatus::Unknown, reasons::PROGRESSING, 1), 1_000));
        assert!(!set(&mut conditions, update(ConditionStatus::Unknown, reasons::PROGRESSING, 1), 2_000));
        assert!(set(&mut conditions, update(ConditionStatus::Unknown, reasons::PENDING, 2), 3_000));
        assert_eq!(conditions[0].last_transition_time, "1970-01-01T00:00:01Z");
        assert!(set(&mut conditions, update(ConditionStatus::True, reasons::PROVEN, 2), 4_000));
        assert_eq!(conditions[0].last_transition_time, "1970-01-01T00:00:04Z");
        assert!(is_true_for(&conditions, types::READY, 2));
        assert!(!is_true_for(&conditions, types::READY, 3));
    }

    #[test]
    fn the_first_visit_names_every_condition_once() {
        let mut conditions = Vec::new();
        assert!(set_missing(&mut conditions, &types::OF_OPERATOR, 1, 0));
        assert!(!set_missing(&mut conditions, &types::OF_OPERATOR, 1, 9_000));
        assert_eq!(conditions.len(), 4);
        assert!(conditions.iter().all(|condition| condition.status == ConditionStatus::Unknown));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let mut conditions = Vec::new();
        let mut long = update(ConditionStatus::True, reasons::PROVEN, 1);
        long.message = "ä".repeat(MAX_MESSAGE_BYTES);
        set(&mut conditions, long, 0);
        assert!(conditions[0].message.len() <= MAX_MESSAGE_BYTES);
        assert!(conditions[0].message.ends_with("ä..."));
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599_999), "2025-12-31T23:59:59Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
