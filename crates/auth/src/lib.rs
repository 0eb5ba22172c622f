//! Who are you, and what may you do.
//!
//! - [`password`]: argon2id hashes (19 MiB, two passes), the policy for new passwords.
//! - [`session`]: browser sessions: opaque 256-bit ids of which the store holds the hash, a CSRF token derived from the id.
//! - [`limiter`]: failed log-ins cost exponentially growing waits, per user and address.
//! - [`token`]: API tokens `ers_<id>_<secret>` and the keys of agents without Kubernetes `ersa_<id>_<secret>`.
//! - [`kubernetes`]: projected service-account tokens, by TokenReview with an audience.
//! - [`authz`]: a closed table of (action, resource); whatever it does not name is denied. Handlers take [`Authorized`], which only the table can make.
//!
//! Knows nothing of HTTP: the server converts [`AuthError`] at its edge. A back end that cannot be reached is [`AuthError::Unavailable`] and never a refusal.

mod authenticator;
pub mod authz;
mod error;
pub mod identity;
pub mod kubernetes;
pub mod limiter;
pub mod password;
pub mod secret;
pub mod session;
pub mod token;

pub use authenticator::{Authenticator, LoggedIn, Login};
pub use authz::{Action, Authorized, Denied, Permission, Permit, Resource};
pub use error::AuthError;
pub use identity::{AgentIdentity, Principal};
