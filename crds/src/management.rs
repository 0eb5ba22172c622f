//! What the programs may do with an object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// No doc comment on the type: the derive would print it in place of the field's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ManagementState {
    /// Build, run and keep up to date.
    #[default]
    Managed,
    /// Leave everything as it is: nothing is built, changed or removed until the object is Managed again.
    Suspended,
    /// Judge the object and say in its conditions what would be done, but do none of it.
    DryRun,
}

impl ManagementState {
    pub fn as_str(self) -> &'static str {
        match self {
            ManagementState::Managed => "Managed",
            ManagementState::Suspended => "Suspended",
            ManagementState::DryRun => "DryRun",
        }
    }
}
