//! What the steps say to each other about an object.

use ers_crds::conditions::{ConditionStatus, ConditionUpdate, reasons, types};

/// Why a generation is not taken into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: &'static str,
    pub message: String,
    /// A permission is missing: what runs without it must go, instead of staying as it was.
    pub revokes: bool,
}

impl Refusal {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Refusal { reason, message: message.into(), revokes: false }
    }
}

/// Condition `Accepted`, before it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Refused(Refusal),
    /// Something that the specification names is not there yet.
    Waiting {
        reason: &'static str,
        message: String,
    },
}

impl Verdict {
    pub fn condition(&self, generation: i64) -> ConditionUpdate {
        let (status, reason, message) = match self {
            Verdict::Accepted => {
                (ConditionStatus::True, reasons::VALID, "the specification is valid and permitted".to_owned())
            }
            Verdict::Refused(Refusal { reason, message, revokes: _ }) => {
                (ConditionStatus::False, *reason, message.clone())
            }
            Verdict::Waiting { reason, message } => (ConditionStatus::Unknown, *reason, message.clone()),
        };
        ConditionUpdate::new(types::ACCEPTED, status, reason, message, generation)
    }
}
