//! ReportPolicy with its defaults filled in.

use super::effective::{EffectiveResources, ResourceDefaults};
use super::{Identity, Violation, Violations};
use crate::management::ManagementState;
use crate::quantity::Quantity;
use crate::report_policy::{
    EmbeddedMetrics, MetricsStorage, MetricsStorageType, NamedSecret, NetworkPolicyMode, OnDelete, ReportPolicy,
    ReportPolicySpec, ServerSpec, ServiceType, StateStorage, StateStorageType, StorageSpec,
};

const DEFAULT_SIZE: &str = "10Gi";
const DEFAULT_RETENTION_DAYS: u32 = 15;
const RESOURCES: ResourceDefaults =
    ResourceDefaults { cpu_request: "100m", memory_request: "128Mi", memory_limit: "1Gi" };

/// A ReportPolicy that keeps every rule, with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatedReportPolicy {
    pub identity: Identity,
    pub management_state: ManagementState,
    pub secrets: Vec<NamedSecret>,
    pub server: ServerSettings,
    pub storage: StorageSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    pub replicas: u32,
    /// Secret of type `kubernetes.io/tls`; `None`: the server makes its own certificate.
    pub tls_secret: Option<String>,
    pub resources: EffectiveResources,
    pub service_type: ServiceType,
    pub network_policy: NetworkPolicyMode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    pub size: Quantity,
    pub size_bytes: u64,
    pub storage_class_name: Option<String>,
    pub retention_days: u32,
    pub on_delete: OnDelete,
}

/// Fills in defaults and judges what neither the schema nor CEL can say.
pub(super) fn validate(object: &ReportPolicy) -> Result<ValidatedReportPolicy, Violations> {
    let ReportPolicySpec { management_state, secrets, server, storage } = &object.spec;
    let ServerSpec { replicas, tls, resources, service, network_policy } = server.clone().unwrap_or_default();
    let StorageSpec { metrics, state, on_delete } = storage.clone().unwrap_or_default();
    let embedded = metrics.and_then(|MetricsStorage { type_: MetricsStorageType::Embedded, embedded }| embedded);
    // There is only one type of state yet; the pattern stops compiling when a second one comes.
    if let Some(StateStorage { type_: StateStorageType::Embedded }) = state {}
    let EmbeddedMetrics { size, storage_class_name, retention_days } = embedded.unwrap_or_default();
    let size = size.unwrap_or_else(|| Quantity::new(DEFAULT_SIZE));
    let Some(size_bytes) = size.units() else {
        return Err(Violations(vec![Violation::of_rule(
            "spec.storage.metrics.embedded.size",
            "reportpolicy-size-range",
            "the size must be between 1Gi and 64Ti",
        )]));
    };
    Ok(ValidatedReportPolicy {
        identity: Identity::of(&object.metadata),
        management_state: management_state.unwrap_or_default(),
        secrets: secrets.clone(),
        server: ServerSettings {
            replicas: replicas.unwrap_or(1),
            tls_secret: tls.map(|tls| tls.secret_ref.name.into_string()),
            resources: RESOURCES.fill(resources.as_ref()),
            service_type: service.and_then(|service| service.type_).unwrap_or_default(),
            network_policy: network_policy.unwrap_or_default(),
        },
        storage: StorageSettings {
            size,
            size_bytes,
            storage_class_name: storage_class_name.map(|name| name.into_string()),
            retention_days: retention_days.unwrap_or(DEFAULT_RETENTION_DAYS),
            on_delete: on_delete.unwrap_or_default(),
        },
    })
}
