//! The kinds of `reporting.ers.dev/v1alpha1`: their types, rules, conditions, and the code that judges them.
//!
//! - [`ReportPolicy`] and [`CollectorTarget`]: specs and statuses. Their doc comments are what `kubectl explain` prints.
//! - [`crd`]: the CustomResourceDefinitions as they are installed; the only source of `crds/yaml`.
//! - [`validate`]: object -> `Validated*` or a list of [`validate::Violation`]s. Pure: no client, no clock.
//!   The webhook, the controllers, the server, `check` and standalone all call it.
//! - [`conditions`]: names and reasons of conditions, and the one way to set them.
//! - [`check`]: manifests judged offline, with references resolved among them.

pub mod check;
pub mod collector_target;
pub mod conditions;
pub mod crd;
pub mod management;
pub mod quantity;
pub mod report_policy;
pub mod resources;
pub mod strings;
pub mod validate;

pub use collector_target::{CollectorTarget, CollectorTargetSpec, CollectorTargetStatus};
pub use conditions::Condition;
pub use crd::{Kind, yaml};
pub use management::ManagementState;
pub use quantity::Quantity;
pub use report_policy::{ReportPolicy, ReportPolicySpec, ReportPolicyStatus};

/// Group of all kinds.
pub const GROUP: &str = ers_model::names::GROUP;
/// The one served version.
pub const VERSION: &str = "v1alpha1";
/// `reporting.ers.dev/v1alpha1`
pub const API_VERSION: &str = "reporting.ers.dev/v1alpha1";
