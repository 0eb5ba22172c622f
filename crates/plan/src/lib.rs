//! Plans: what a validated object means for the programs that run it. Pure and deterministic: equal input gives equal
//! bytes and an equal hash, whoever asks: the operator, the standalone server or `check`.
//!
//! - [`server_config`]: a ReportPolicy -> the boot settings of its server.
//! - [`agent_config`]: a CollectorTarget -> the configuration of its agents.

mod agent;
mod hash;
mod server;

pub use agent::{agent_config, cluster_destination};
pub use hash::{HASH_LENGTH, canonical_json, config_hash};
pub use server::{
    CERTIFICATE_DIR, ListenConfig, Mode, Place, PlanError, SERVER_CONFIG_VERSION, ServerConfig, ServerLimits,
    StorageConfig, TlsConfig, server_config, tenant_id,
};
