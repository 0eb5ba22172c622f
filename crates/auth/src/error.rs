//! Why somebody was not let in.

use ers_store::StoreError;

use crate::password::PasswordError;

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No credential, or one that is not valid (any more). The reason is for the log and for the caller; it tells nothing that a guesser could use.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// User name or password is wrong; which of them is not said.
    #[error("wrong user name or password")]
    InvalidCredentials,
    /// Too many failed log-ins.
    #[error("too many failed log-ins, try again in {retry_after_seconds} s")]
    RateLimited { retry_after_seconds: u64 },
    /// Whoever could judge the credential cannot be reached: the caller keeps it and tries again.
    #[error("the authentication back end cannot be reached: {0}")]
    Unavailable(String),
    #[error("the password cannot be used")]
    Password(#[source] PasswordError),
    #[error("the state store failed")]
    Store(#[source] StoreError),
}
