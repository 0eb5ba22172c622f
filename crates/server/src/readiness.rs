//! What still keeps the server from being ready.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Parts that must work. Each begins as not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Configuration,
    State,
    Samples,
}

impl Part {
    const ALL: [Part; 3] = [Part::Configuration, Part::State, Part::Samples];

    fn name(self) -> &'static str {
        match self {
            Part::Configuration => "configuration",
            Part::State => "state store",
            Part::Samples => "sample store",
        }
    }
}

/// Reasons by part; a part without one is ready.
pub struct Readiness(Mutex<BTreeMap<Part, String>>);

impl Default for Readiness {
    fn default() -> Self {
        Readiness(Mutex::new(Part::ALL.into_iter().map(|part| (part, "not known yet".to_owned())).collect()))
    }
}

impl Readiness {
    /// None: the part is ready.
    pub fn set(&self, part: Part, reason: Option<String>) {
        let mut reasons = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match reason {
            Some(reason) => reasons.insert(part, reason),
            None => reasons.remove(&part),
        };
    }

    pub fn reasons(&self) -> Vec<String> {
        let reasons = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        reasons.iter().map(|(part, reason)| format!("{}: {reason}", part.name())).collect()
    }
}
