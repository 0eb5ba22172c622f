//! Typed events: what happened, said once as a log line and once as a counter.

/// Something worth a log line and a count.
///
/// The message is constant and the values are fields, so that lines can be found and counted; label values come
/// from closed sets only, never an object's name.
pub trait Event {
    /// The counters of the component, handed in by whoever owns the registry.
    type Metrics;

    /// Writes the log line.
    fn log(&self);

    /// Moves the counter.
    fn count(&self, metrics: &Self::Metrics);

    /// Both of them.
    fn emit(&self, metrics: &Self::Metrics) {
        self.count(metrics);
        self.log();
    }
}

#[cfg(test)]
mod tests {
    use super::Event;
    use prometheus_client::metrics::counter::Counter;

    struct Refused;

    impl Event for Refused {
        type Metrics = Counter;

        fn log(&self) {
            tracing::warn!("request refused");
        }

        fn count(&self, metrics: &Counter) {
            metrics.inc();
        }
    }

    #[test]
    fn emitting_an_event_counts_it() {
        let counter = Counter::default();
        Refused.emit(&counter);
        Refused.emit(&counter);
        assert_eq!(counter.get(), 2);
    }
}
