//! A program's own metrics, all under one prefix.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Media type of [`Metrics::encode`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry of one program. Names are `ers_<component>_<noun>_<unit>[_total]`, labels come from closed sets.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry whose every name begins with `ers_<component>_`.
    pub fn new(component: &str) -> Self {
        Metrics { registry: Registry::with_prefix(format!("ers_{component}")) }
    }

    /// For registering: the prefix, and `_total` for counters, are added by the registry.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The OpenMetrics text of everything registered; ends in `# EOF`.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(4096);
        encode(&mut text, &self.registry).expect("writing into a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn names_carry_the_prefix_and_the_suffix() {
        let mut metrics = Metrics::new("agent");
        let samples = Counter::<u64>::default();
        metrics.registry().register("samples_read", "Samples read", samples.clone());
        samples.inc_by(3);
        let text = metrics.encode();
        assert!(text.contains("ers_agent_samples_read_total 3"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
