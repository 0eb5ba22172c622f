//! What can go wrong with the state.

/// `action` says what was being done; the message never holds a value from a row.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the state store at {path}")]
    Open {
        path: String,
        #[source]
        source: sea_orm::DbErr,
    },
    #[error("cannot bring the state store at {path} to this version's schema")]
    Migrate {
        path: String,
        #[source]
        source: sea_orm::DbErr,
    },
    /// The disk is full: reads go on, writes succeed again when there is room.
    #[error("cannot {action}: the disk of the state store is full")]
    Full { action: &'static str },
    #[error("cannot {action}")]
    Query {
        action: &'static str,
        #[source]
        source: sea_orm::DbErr,
    },
    /// A name that must be unique is taken.
    #[error("{what} {name:?} exists already")]
    Exists { what: &'static str, name: String },
    /// A row holds what this version cannot read.
    #[error("the state store holds a {what} that this version cannot read: {value:?}")]
    Corrupt { what: &'static str, value: String },
}

impl StoreError {
    pub(crate) fn query(action: &'static str) -> impl FnOnce(sea_orm::DbErr) -> StoreError {
        move |source| {
            // SQLITE_FULL (13) has no variant of its own in the driver's error.
            if source.to_string().contains("database or disk is full") {
                StoreError::Full { action }
            } else {
                StoreError::Query { action, source }
            }
        }
    }
}
