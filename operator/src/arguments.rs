//! The command line. Every flag is also an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

/// Control plane of the Enterprise Reporting System.
#[derive(Debug, Parser)]
#[command(name = "ers-operator", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile objects and serve admission, until stopped.
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Judge manifests offline: the same verdict, field and rule as admission, and references among the files.
    Check(Check),
    /// Ask the operator on this machine whether it is ready; for probes.
    Health(Health),
}

#[derive(Debug, Args)]
pub struct Run {
    /// Namespace in which the operator runs: its Lease and its certificate are there.
    #[arg(long, env = "ERS_NAMESPACE", default_value = "ers-system")]
    pub namespace: String,
    /// Name of this replica, unique among them: the pod's name.
    #[arg(long, env = "ERS_IDENTITY")]
    pub identity: String,
    /// Image of the servers.
    #[arg(long, env = "ERS_SERVER_IMAGE")]
    pub server_image: String,
    /// Image of the agents.
    #[arg(long, env = "ERS_AGENT_IMAGE")]
    pub agent_image: String,
    /// Pull policy of both.
    #[arg(long, env = "ERS_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: String,
    /// Label `cluster` of every series.
    #[arg(long, env = "ERS_CLUSTER_NAME", default_value = "default")]
    pub cluster_name: String,
    /// Label `region` of every series; left out if empty.
    #[arg(long, env = "ERS_REGION")]
    pub region: Option<String>,
    /// Address ranges of the nodes, separated by commas; the nodes' own addresses if left out.
    #[arg(long, env = "ERS_NODE_CIDRS", value_delimiter = ',')]
    pub node_cidrs: Vec<String>,
    /// Whether to apply the CustomResourceDefinitions at start.
    #[arg(long, env = "ERS_MANAGE_CRDS", default_value_t = true, action = ArgAction::Set)]
    pub manage_crds: bool,
    /// Address of the webhook and of health, HTTPS.
    #[arg(long, env = "ERS_LISTEN", default_value = "0.0.0.0:9443")]
    pub listen: SocketAddr,
    /// Address of the metrics, HTTPS.
    #[arg(long, env = "ERS_METRICS_LISTEN", default_value = "0.0.0.0:8443")]
    pub metrics_listen: SocketAddr,
    /// Name of the Service in front of the webhook.
    #[arg(long, env = "ERS_SERVICE", default_value = "ers-operator")]
    pub service: String,
    /// Name of the ValidatingWebhookConfiguration into which the authority is written.
    #[arg(long, env = "ERS_WEBHOOK_CONFIGURATION", default_value = "ers-operator")]
    pub webhook_configuration: String,
    /// Which log lines are written: a level, or directives such as `info,kube=debug`.
    #[arg(long, env = "ERS_LOG_FILTER", default_value = "info,actix_server=warn")]
    pub log_filter: String,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Files or folders with YAML manifests; `-` reads standard input.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Health {
    /// Address of the operator's health endpoint.
    #[arg(long, env = "ERS_HEALTH_ADDRESS", default_value = "127.0.0.1:9443")]
    pub address: SocketAddr,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_flag_is_also_an_environment_variable() {
        for command in Arguments::command().get_subcommands() {
            for argument in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let name = argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                assert!(name.starts_with("ERS_"), "{} of {}", argument.get_id(), command.get_name());
            }
        }
    }
}
