//! What a status becomes when the server has something to say; shared by both sinks.

use ers_crds::collector_target::{FailingTarget, MAX_FAILING};
use ers_crds::conditions::{self, Condition};

use crate::{Collection, StatusUpdate};

/// The server's part of a status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerPart {
    pub conditions: Vec<Condition>,
    pub collection: Option<Collection>,
    pub truncated: bool,
}

impl ServerPart {
    /// Merges an update; answers whether anything differs from before.
    pub(crate) fn merge(&mut self, update: &StatusUpdate, now_ms: i64) -> bool {
        let mut changed = false;
        for condition in &update.conditions {
            changed |= conditions::set(&mut self.conditions, condition.clone(), now_ms);
        }
        if let Some(Collection { targets, failing }) = &update.collection {
            let (failing, truncated) = first_of(failing);
            let next = Some(Collection { targets: targets.clone(), failing });
            changed |= next != self.collection || truncated != self.truncated;
            self.collection = next;
            self.truncated = truncated;
        }
        changed
    }
}

/// Sorted, so that the same failures give the same list, and cut.
fn first_of(failing: &[FailingTarget]) -> (Vec<FailingTarget>, bool) {
    let mut sorted = failing.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let truncated = sorted.len() > MAX_FAILING;
    sorted.truncate(MAX_FAILING);
    for target in &mut sorted {
        shorten(&mut target.job, 256);
        shorten(&mut target.instance, 512);
        shorten(&mut target.reason, 1024);
    }
    (sorted, truncated)
}

/// Cuts at a character, so that the schema's longest length is kept.
fn shorten(text: &mut String, max_bytes: usize) {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use ers_crds::collector_target::TargetCounts;
    use ers_crds::conditions::{ConditionStatus, ConditionUpdate, reasons, types};

    use super::*;

    fn failing(instance: usize) -> FailingTarget {
        FailingTarget { job: "j".into(), instance: format!("i{instance:03}"), reason: "refused".into() }
    }

    fn update(failing: Vec<FailingTarget>) -> StatusUpdate {
        StatusUpdate {
            conditions: vec![ConditionUpdate::new(
                types::COLLECTING,
                ConditionStatus::True,
                reasons::SAMPLES_ARRIVE,
                "",
                1,
            )],
            collection: Some(Collection { targets: TargetCounts::new(1, 2, 0), failing }),
            generations: None,
        }
    }

    #[test]
    fn the_same_said_twice_changes_nothing() {
        let mut part = ServerPart::default();
        assert!(part.merge(&update(vec![failing(2), failing(1)]), 1_000));
        let before = part.clone();
        assert!(!part.merge(&update(vec![failing(1), failing(2)]), 99_000));
        assert_eq!(part, before);
    }

    #[test]
    fn at_most_ten_failing_targets_are_named() {
        let mut part = ServerPart::default();
        part.merge(&update((0..40).map(failing).collect()), 0);
        assert_eq!(part.collection.map(|collection| collection.failing.len()), Some(MAX_FAILING));
        assert!(part.truncated);
    }

    #[test]
    fn long_reasons_are_cut_at_a_character() {
        let mut long = failing(1);
        long.reason = format!("x{}", "ä".repeat(1024));
        let (cut, _) = first_of(&[long]);
        assert_eq!(cut[0].reason.len(), 1023);
    }
}
