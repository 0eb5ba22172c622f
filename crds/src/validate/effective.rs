//! Values in force once defaults are filled in.

use crate::quantity::Quantity;
use crate::resources::{ResourceAmounts, Resources};

/// Requests and limits of a container in force. An amount that is `None` is not set on the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveResources {
    pub requests: ResourceAmounts,
    pub limits: ResourceAmounts,
}

/// Defaults of one container.
pub(super) struct ResourceDefaults {
    pub cpu_request: &'static str,
    pub memory_request: &'static str,
    pub memory_limit: &'static str,
}

impl ResourceDefaults {
    /// Fills in defaults such that a request is never above its limit: a default request is lowered to a given limit, and
    /// a default limit is raised to a given request.
    pub(super) fn fill(&self, given: Option<&Resources>) -> EffectiveResources {
        let given = given.cloned().unwrap_or_default();
        let requests = given.requests.unwrap_or_default();
        let limits = match given.limits {
            Some(limits) => limits,
            None => ResourceAmounts {
                cpu: None,
                memory: Some(larger(Quantity::new(self.memory_limit), requests.memory.as_ref())),
            },
        };
        let requests = ResourceAmounts {
            cpu: Some(requests.cpu.unwrap_or_else(|| smaller(Quantity::new(self.cpu_request), limits.cpu.as_ref()))),
            memory: Some(
                requests.memory.unwrap_or_else(|| smaller(Quantity::new(self.memory_request), limits.memory.as_ref())),
            ),
        };
        EffectiveResources { requests, limits }
    }
}

fn larger(default: Quantity, given: Option<&Quantity>) -> Quantity {
    match given {
        Some(given) if given.millis() > default.millis() => given.clone(),
        _ => default,
    }
}

fn smaller(default: Quantity, given: Option<&Quantity>) -> Quantity {
    match given {
        Some(given) if given.millis() < default.millis() => given.clone(),
        _ => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: ResourceDefaults =
        ResourceDefaults { cpu_request: "100m", memory_request: "128Mi", memory_limit: "1Gi" };

    fn amounts(cpu: Option<&str>, memory: Option<&str>) -> ResourceAmounts {
        ResourceAmounts { cpu: cpu.map(Quantity::new), memory: memory.map(Quantity::new) }
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        let effective = DEFAULTS.fill(None);
        assert_eq!(effective.requests, amounts(Some("100m"), Some("128Mi")));
        assert_eq!(effective.limits, amounts(None, Some("1Gi")));
    }

    #[test]
    fn a_default_request_is_lowered_to_a_given_limit() {
        let given = Resources { requests: None, limits: Some(amounts(Some("50m"), Some("64Mi"))) };
        assert_eq!(DEFAULTS.fill(Some(&given)).requests, amounts(Some("50m"), Some("64Mi")));
    }

    #[test]
    fn a_default_limit_is_raised_to_a_given_request() {
        let given = Resources { requests: Some(amounts(None, Some("2Gi"))), limits: None };
        assert_eq!(DEFAULTS.fill(Some(&given)).limits, amounts(None, Some("2Gi")));
    }

    #[test]
    fn limits_that_are_given_empty_stay_empty() {
        let given = Resources { requests: None, limits: Some(amounts(None, None)) };
        assert_eq!(DEFAULTS.fill(Some(&given)).limits, amounts(None, None));
    }
}
