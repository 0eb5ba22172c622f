//! `Ready` is a proof, latched per generation. Pure: the time and all that was seen are arguments.
//!
//! | seen | Ready |
//! |---|---|
//! | not valid or not permitted | `False`, with that reason |
//! | Suspended, DryRun | `True`, with that reason |
//! | no proof yet | `Unknown`/`Progressing`; after 10 minutes `False`/`ProgressDeadlineExceeded` |
//! | proof | `True`, and stays so for this generation |
//! | no node to run on | `True`/`NoMatchingNodes`, and asked anew each time |
//! | the own workload is gone | as before for 5 minutes, then `False`/`WorkloadUnavailable` |

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ers_crds::ManagementState;
use ers_crds::conditions::{self, Condition, ConditionStatus, ConditionUpdate, reasons, types};

use crate::judge::Verdict;

/// How long a generation may take to be proven.
pub const PROGRESS_DEADLINE_MS: i64 = 600_000;
/// How long an object's own workload may be gone.
pub const GONE_DEADLINE_MS: i64 = 300_000;

/// What was found about a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Refused {
        reason: &'static str,
        message: String,
    },
    Held {
        reason: &'static str,
        message: String,
    },
    Unproven {
        message: String,
        since_ms: i64,
    },
    Proven {
        reason: &'static str,
        message: String,
    },
    /// It was proven, and now nothing of its workload is ready.
    Gone {
        message: String,
        since_ms: i64,
    },
}

/// The condition, and in how many milliseconds time alone will change it.
pub fn ready(seen: Seen, generation: i64, now_ms: i64) -> (ConditionUpdate, Option<i64>) {
    let condition = |status, reason, message| ConditionUpdate::new(types::READY, status, reason, message, generation);
    match seen {
        Seen::Refused { reason, message } => (condition(ConditionStatus::False, reason, message), None),
        Seen::Held { reason, message } | Seen::Proven { reason, message } => {
            (condition(ConditionStatus::True, reason, message), None)
        }
        Seen::Unproven { message, since_ms } => {
            let left = since_ms + PROGRESS_DEADLINE_MS - now_ms;
            if left > 0 {
                return (condition(ConditionStatus::Unknown, reasons::PROGRESSING, message), Some(left));
            }
            let message = format!("not proven within 10 minutes: {message}");
            (condition(ConditionStatus::False, reasons::PROGRESS_DEADLINE_EXCEEDED, message), None)
        }
        Seen::Gone { message, since_ms } => {
            let left = since_ms + GONE_DEADLINE_MS - now_ms;
            if left > 0 {
                let message = "proven for this generation; see condition Degraded".to_owned();
                return (condition(ConditionStatus::True, reasons::PROVEN, message), Some(left));
            }
            (condition(ConditionStatus::False, reasons::WORKLOAD_UNAVAILABLE, message), None)
        }
    }
}

/// Whether this generation was proven before, by what the status says. That no node matched is not among it: nothing ran,
/// so what comes with the first node has to prove itself.
pub fn is_latched(conditions: &[Condition], generation: i64) -> bool {
    conditions::find(conditions, types::READY).is_some_and(|ready| {
        let of_proof = [reasons::PROVEN, reasons::WORKLOAD_UNAVAILABLE];
        ready.observed_generation == Some(generation)
            && ready.status != ConditionStatus::Unknown
            && of_proof.contains(&ready.reason.as_str())
    })
}

/// Whether the deadline for the proof runs: not while the object is refused or held, for nobody works on it then.
pub fn waits_for_proof(verdict: &Verdict, state: Option<ManagementState>, proven: bool) -> bool {
    let held = matches!(state, Some(ManagementState::Suspended | ManagementState::DryRun));
    match verdict {
        Verdict::Refused(_) => false,
        Verdict::Waiting { .. } => true,
        Verdict::Accepted => !held && !proven,
    }
}

/// Since when something goes on, for each object. The memory of this process is exact; after a restart the status tells.
#[derive(Debug, Default)]
pub struct Since(Mutex<HashMap<(String, i64), i64>>);

impl Since {
    /// Since when this generation of the object waits for its proof.
    pub fn progress(&self, uid: &str, generation: i64, conditions: &[Condition], now_ms: i64) -> i64 {
        let waits = |condition: &Condition| {
            condition.observed_generation == Some(generation)
                && (condition.status == ConditionStatus::Unknown
                    || condition.reason == reasons::PROGRESS_DEADLINE_EXCEEDED)
        };
        let told = conditions::find(conditions, types::READY).filter(|ready| waits(ready)).and_then(|ready| {
            let since = unix_ms(&ready.last_transition_time)?;
            // The time of a False is when the deadline had passed.
            Some(if ready.status == ConditionStatus::False { since - PROGRESS_DEADLINE_MS } else { since })
        });
        self.start((uid.to_owned(), generation), told.unwrap_or(now_ms))
    }

    /// This generation does not wait for its proof; should it do so again, its time begins anew.
    pub fn waits_no_more(&self, uid: &str, generation: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(uid.to_owned(), generation));
    }

    /// Since when the object's workload is gone.
    pub fn gone(&self, uid: &str, conditions: &[Condition], now_ms: i64) -> i64 {
        // `Degraded` tells no time: it may have been True long before for another reason, and its time is that of then.
        // Whoever takes over begins to count, unless the deadline had passed already.
        let told = conditions::find(conditions, types::READY)
            .filter(|ready| ready.status == ConditionStatus::False && ready.reason == reasons::WORKLOAD_UNAVAILABLE)
            .and_then(|ready| Some(unix_ms(&ready.last_transition_time)? - GONE_DEADLINE_MS));
        self.start((uid.to_owned(), -1), told.unwrap_or(now_ms))
    }

    /// The workload is back.
    pub fn is_back(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(uid.to_owned(), -1));
    }

    /// Forgets all but the given generation of an object; with `None` the whole object.
    pub fn keep_only(&self, uid: &str, generation: Option<i64>) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|(of, number), _| {
            of != uid || (generation.is_some() && (Some(*number) == generation || *number == -1))
        });
    }

    fn start(&self, key: (String, i64), at_ms: i64) -> i64 {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(at_ms)
    }
}

fn unix_ms(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen: Seen, now_ms: i64, status: ConditionStatus, reason: &str, timer: Option<i64>) {
        let (condition, next) = ready(seen, 3, now_ms);
        assert_eq!((condition.status, condition.reason, next), (status, reason, timer));
        assert_eq!(condition.observed_generation, 3);
    }

    fn unproven() -> Seen {
        Seen::Unproven { message: "x".into(), since_ms: 1_000 }
    }

    fn gone() -> Seen {
        Seen::Gone { message: "x".into(), since_ms: 1_000 }
    }

    #[test]
    fn without_proof_it_is_unknown_for_ten_minutes_and_then_false() {
        check(unproven(), 1_000, ConditionStatus::Unknown, "Progressing", Some(600_000));
        check(unproven(), 600_999, ConditionStatus::Unknown, "Progressing", Some(1));
        check(unproven(), 601_000, ConditionStatus::False, "ProgressDeadlineExceeded", None);
    }

    #[test]
    fn a_workload_that_is_gone_makes_it_false_after_five_minutes() {
        check(gone(), 2_000, ConditionStatus::True, "Proven", Some(299_000));
        check(gone(), 301_000, ConditionStatus::False, "WorkloadUnavailable", None);
    }

    #[test]
    fn refused_is_false_and_held_is_true_at_once() {
        let refused = Seen::Refused { reason: reasons::INVALID, message: "x".into() };
        check(refused, 0, ConditionStatus::False, "Invalid", None);
        let held = Seen::Held { reason: reasons::SUSPENDED, message: "x".into() };
        check(held, 0, ConditionStatus::True, "Suspended", None);
        let proven = Seen::Proven { reason: reasons::PROVEN, message: "x".into() };
        check(proven, 0, ConditionStatus::True, "Proven", None);
    }

    fn conditions(seen: Seen, now_ms: i64) -> Vec<Condition> {
        let mut conditions = Vec::new();
        conditions::set(&mut conditions, ready(seen, 3, now_ms).0, now_ms);
        conditions
    }

    #[test]
    fn only_a_proof_of_this_generation_latches() {
        let proven = conditions(Seen::Proven { reason: reasons::PROVEN, message: String::new() }, 0);
        assert!(is_latched(&proven, 3));
        assert!(!is_latched(&proven, 4));
        assert!(!is_latched(&conditions(unproven(), 1_000), 3));
        assert!(!is_latched(&conditions(unproven(), 900_000), 3));
        assert!(!is_latched(&conditions(Seen::Held { reason: reasons::SUSPENDED, message: String::new() }, 0), 3));
        assert!(is_latched(&conditions(gone(), 900_000), 3), "what was proven and lost comes back without a new proof");
    }

    #[test]
    fn that_nothing_was_to_run_is_no_proof_for_what_comes_later() {
        let none = Seen::Proven { reason: reasons::NO_MATCHING_NODES, message: String::new() };
        assert!(!is_latched(&conditions(none, 0), 3));
    }

    #[test]
    fn the_deadline_runs_only_while_somebody_works_on_the_proof() {
        let refused = Verdict::Refused(crate::judge::Refusal::new(reasons::INVALID, "x"));
        let waiting = Verdict::Waiting { reason: reasons::REF_NOT_FOUND, message: "x".into() };
        let managed = Some(ManagementState::Managed);
        assert!(waits_for_proof(&Verdict::Accepted, managed, false));
        assert!(waits_for_proof(&waiting, managed, false));
        assert!(!waits_for_proof(&Verdict::Accepted, managed, true));
        assert!(!waits_for_proof(&Verdict::Accepted, Some(ManagementState::Suspended), false));
        assert!(!waits_for_proof(&Verdict::Accepted, Some(ManagementState::DryRun), false));
        assert!(!waits_for_proof(&refused, managed, false));
        let since = Since::default();
        assert_eq!(since.progress("u", 3, &[], 1_000), 1_000);
        since.waits_no_more("u", 3);
        assert_eq!(since.progress("u", 3, &[], 900_000), 900_000);
    }

    #[test]
    fn after_a_fail_over_a_lost_workload_gets_its_five_minutes_unless_they_had_passed() {
        let degraded = |reason| ConditionUpdate::new(types::DEGRADED, ConditionStatus::True, reason, "", 3);
        let mut told = conditions(gone(), 2_000);
        conditions::set(&mut told, degraded(reasons::PODS_NOT_READY), 3_000);
        conditions::set(&mut told, degraded(reasons::WORKLOAD_UNAVAILABLE), 900_000);
        let restarted = Since::default();
        assert_eq!(
            restarted.gone("u", &told, 1_000_000),
            1_000_000,
            "the time of Degraded is that of its first reason"
        );
        assert_eq!(restarted.gone("u", &told, 1_100_000), 1_000_000);
        let passed = conditions(gone(), 900_000);
        assert_eq!(Since::default().gone("u", &passed, 1_000_000), 600_000, "and stays so");
    }

    #[test]
    fn the_deadline_survives_a_restart_and_starts_anew_with_a_generation() {
        let told = conditions(unproven(), 1_000);
        let restarted = Since::default();
        assert_eq!(restarted.progress("u", 3, &told, 500_000), 1_000);
        assert_eq!(restarted.progress("u", 4, &told, 500_000), 500_000);
        assert_eq!(restarted.progress("u", 4, &told, 600_000), 500_000);
        let exceeded = conditions(unproven(), 700_000);
        assert_eq!(Since::default().progress("u", 3, &exceeded, 900_000), 100_000, "and stays exceeded");
        restarted.keep_only("u", Some(4));
        assert_eq!(restarted.progress("u", 4, &[], 700_000), 500_000);
        restarted.keep_only("u", None);
        assert_eq!(restarted.progress("u", 4, &[], 700_000), 700_000);
    }
}
