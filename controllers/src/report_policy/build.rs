//! ReportPolicy -> children. Pure.

use ers_crds::ReportPolicySpec;
use ers_crds::validate::ValidatedReportPolicy;
use ers_model::names::{POLICY_LABEL, server_name};
use ers_plan::{Place, PlanError, server_config};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::cache::Key;
use crate::child::{Prepared, Resources};
use crate::settings::Settings;
use crate::{last_good, pod};

mod access;
mod config_map;
mod network_policy;
mod service;
mod stateful_set;

/// Program in the pods.
const PROGRAM: &str = "ers-server";
/// Where the configuration is mounted, and its file.
const CONFIG_DIR: &str = "/etc/ers";
const CONFIG_FILE: &str = "server.json";
const DATA_DIR: &str = "/var/lib/ers";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to plan the server's configuration")]
    Plan(#[source] PlanError),
}

/// What a policy's children are built from.
pub struct Input<'a> {
    pub policy: &'a ValidatedReportPolicy,
    /// The specification that `policy` came from, and its generation: kept as the last good one.
    pub spec: &'a ReportPolicySpec,
    pub generation: i64,
    pub owner: &'a OwnerReference,
    pub settings: &'a Settings,
    /// Where the nodes' own processes come from.
    pub node_ranges: &'a [String],
}

impl Input<'_> {
    fn key(&self, name: impl Into<String>) -> Key {
        Key::new(self.policy.identity.namespace.clone(), name)
    }

    /// The name that most children share.
    fn name(&self) -> String {
        server_name(&self.policy.identity.name)
    }

    fn labels(&self) -> std::collections::BTreeMap<String, String> {
        pod::labels(PROGRAM, POLICY_LABEL, &self.policy.identity.name)
    }

    fn selector(&self) -> std::collections::BTreeMap<String, String> {
        pod::selector(PROGRAM, POLICY_LABEL, &self.policy.identity.name)
    }

    fn metadata(&self, name: impl Into<String>) -> serde_json::Value {
        pod::metadata(&self.key(name), &self.labels(), self.owner)
    }
}

/// Builds all children.
///
/// # Errors
/// When the server's configuration cannot be planned: a bug, since the policy is valid.
pub fn build(input: &Input<'_>) -> Result<Resources<Prepared>, Error> {
    let place = Place::kubernetes(input.settings.cluster_name.clone(), input.settings.region.clone());
    let config = server_config(input.policy, &place).map_err(Error::Plan)?;
    let hash = config.config_hash.clone();
    let mut children = vec![
        config_map::build(input, &config),
        access::service_account(input),
        access::role_binding(input),
        service::cluster(input),
        service::headless(input),
    ];
    children.extend(network_policy::build(input));
    children.extend(access::disruption_budget(input));
    children.push(stateful_set::build(input, &config));
    // Last, so that it never tells of a generation whose other children were not applied.
    let active = input.metadata(last_good::name(&input.name()));
    children.push(last_good::child(active, input.generation, input.spec));
    Ok(Resources::new(children, hash))
}

/// Name of the volume claim of the one server.
pub fn claim_name(policy: &str) -> String {
    format!("{}-{}-0", stateful_set::CLAIM, server_name(policy))
}
