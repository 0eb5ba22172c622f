//! One module per table. These types never leave the crate.

pub mod active_spec;
pub mod agent_key;
pub mod api_token;
pub mod audit_event;
pub mod probe;
pub mod session;
pub mod tenant;
pub mod user;
