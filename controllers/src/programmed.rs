//! Condition `Programmed`: whether the children in the cluster equal what was built. Pure.

use ers_crds::ManagementState;
use ers_crds::conditions::{ConditionStatus, ConditionUpdate, reasons, types};

/// What came of the writes, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// There was nothing to write.
    Untouched,
    DryRun(Vec<String>),
    Done {
        children: usize,
    },
    Failed(String),
}

/// `in_force` is the generation that the children were built from.
pub fn programmed(
    words: &Words,
    state: Option<ManagementState>,
    generation: i64,
    in_force: Option<i64>,
) -> ConditionUpdate {
    let condition =
        |status, reason, message: String| ConditionUpdate::new(types::PROGRAMMED, status, reason, message, generation);
    match words {
        Words::Done { children } if in_force == Some(generation) => {
            condition(ConditionStatus::True, reasons::APPLIED, format!("{children} children are as they were built"))
        }
        Words::Done { children } => {
            let of = in_force.unwrap_or_default();
            let message =
                format!("{children} children are as they were built from generation {of}, which stays in force");
            condition(ConditionStatus::False, reasons::PREVIOUS_GENERATION_IN_FORCE, message)
        }
        Words::DryRun(lines) if lines.is_empty() => {
            condition(ConditionStatus::Unknown, reasons::DRY_RUN, "dry run: nothing would be changed".to_owned())
        }
        Words::DryRun(lines) => {
            condition(ConditionStatus::Unknown, reasons::DRY_RUN, format!("dry run: would {}", lines.join("; would ")))
        }
        Words::Failed(message) => condition(ConditionStatus::False, reasons::APPLY_FAILED, message.clone()),
        Words::Untouched if state == Some(ManagementState::Suspended) => {
            let message = "suspended: children are left as they are".to_owned();
            condition(ConditionStatus::Unknown, reasons::SUSPENDED, message)
        }
        Words::Untouched => {
            condition(ConditionStatus::Unknown, reasons::PENDING, "nothing to apply for this generation".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: Words, in_force: Option<i64>, status: ConditionStatus, reason: &str) {
        let condition = programmed(&words, None, 2, in_force);
        assert_eq!((condition.status, condition.reason), (status, reason));
    }

    #[test]
    fn programmed_is_true_only_for_this_very_generation() {
        check(Words::Done { children: 3 }, Some(2), ConditionStatus::True, "Applied");
        check(Words::Done { children: 3 }, Some(1), ConditionStatus::False, "PreviousGenerationInForce");
        check(Words::Failed("x".into()), Some(2), ConditionStatus::False, "ApplyFailed");
        check(Words::Untouched, None, ConditionStatus::Unknown, "Pending");
    }

    #[test]
    fn a_dry_run_says_what_it_would_do() {
        let lines = vec!["create Service a".to_owned(), "change DaemonSet b at .spec".to_owned()];
        let condition = programmed(&Words::DryRun(lines), None, 2, Some(2));
        assert_eq!(condition.message, "dry run: would create Service a; would change DaemonSet b at .spec");
    }
}
