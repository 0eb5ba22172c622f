//! Log lines: one JSON object per line on standard error.

use tracing_subscriber::EnvFilter;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter could not be read.
    #[error(
        "log filter {filter:?} is not understood: use a level such as info, or directives such as info,ers_agent=debug"
    )]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process has set up logging before.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sets up logging for the whole process: JSON lines with `timestamp`, `level`, `target`, `message` and the event's fields.
///
/// `filter` is a level (`info`) or a list of directives (`info,hyper=warn`).
pub fn init(filter: &str) -> Result<(), InitError> {
    let directives =
        EnvFilter::try_new(filter).map_err(|source| InitError::Filter { filter: filter.to_owned(), source })?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(directives)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(InitError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        let error = init("info,=[").expect_err("not a filter");
        assert!(error.to_string().contains("info,=["), "{error}");
    }
}
