//! What the operator was started with, as far as objects are built from it.

/// The same for all objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the operator itself runs; the servers let it in.
    pub namespace: String,
    pub server_image: String,
    pub agent_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Labels on every series.
    pub cluster_name: String,
    pub region: Option<String>,
    /// Address ranges of the nodes; empty: the addresses of the nodes themselves.
    pub node_cidrs: Vec<String>,
}
