//! `ers-operator run`: everything put together.
//!
//! Every replica serves admission, health and metrics. One of them holds the lease; it applies the definitions, keeps
//! the webhook's certificate and reconciles. Losing the lease ends the process: whatever was under way stops with it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ers_controllers::metrics::SharedMetrics;
use ers_controllers::prover::HttpsProver;
use ers_controllers::settings::Settings;
use ers_controllers::world::World;
use ers_model::{Clock, SystemClock};
use ers_webhook::identity::Identity;
use ers_webhook::keeper::Keeper;
use ers_webhook::{admission, server};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::client::ClientBuilder;
use kube::{Api, Client, Config};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Run;
use crate::gate::{Calls, GateLayer};
use crate::lease::{ClusterLease, Elector, Handle, WRITE_TIMEOUT};
use crate::{definitions, metrics};

const LEASE: &str = "ers-operator";
const ROLE: &str = "ers-operator";
const SECRET: &str = "ers-operator-webhook";
/// How soon the definitions are tried again when the API server does not take them.
const DEFINITIONS_RETRY: Duration = Duration::from_secs(5);

pub fn run(arguments: Run) -> Result<()> {
    ers_telemetry::init(&arguments.log_filter).context("setting up the log")?;
    // Two threads: the work is waiting for the API server.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(arguments))
}

fn client(config: &Config, calls: &Calls, lease: Option<Handle>) -> Result<Client> {
    let layer = GateLayer { calls: calls.clone(), lease };
    Ok(ClientBuilder::try_from(config.clone()).context("making a client of the API server")?.with_layer(&layer).build())
}

async fn serve(arguments: Run) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let config = Config::infer().await.context("finding the API server: neither in a cluster nor with a kubeconfig")?;
    let calls = Calls::default();
    let lease = Handle::default();
    // The lease's own client is not behind the gate that asks for the lease.
    let lease_client = client(&config, &calls, None)?;
    let gated = client(&config, &calls, Some(lease.clone()))?;

    let identity = Identity::placeholder().context("making a certificate to start with")?;
    let admission_metrics = admission::Metrics::default();
    let controller_metrics = SharedMetrics::default();
    let world = Arc::new(World::new(
        gated.clone(),
        settings(&arguments),
        Arc::new(SystemClock),
        Arc::new(HttpsProver),
        Arc::clone(&controller_metrics),
    ));

    let loaded = identity.clone();
    let readiness: server::Readiness = Arc::new(move || {
        let missing = "certificate: none is stored yet; the holder of the lease makes it";
        if loaded.is_loaded() { Vec::new() } else { vec![missing.to_owned()] }
    });
    let listener =
        |address: std::net::SocketAddr| TcpListener::bind(address).with_context(|| format!("listening on {address}"));
    let webhook = server::start(listener(arguments.listen)?, &identity, readiness, admission_metrics.clone())?;
    let registry = metrics::registry(metrics::Sources {
        calls: calls.clone(),
        lease: lease.clone(),
        identity: identity.clone(),
        controllers: controller_metrics,
        admission: admission_metrics,
    });
    let guard = metrics::Guard::new(gated.clone());
    let metrics_server =
        metrics::start(listener(arguments.metrics_listen)?, &identity, guard, registry, Arc::clone(&world))?;
    let (webhook_handle, metrics_handle) = (webhook.handle(), metrics_server.handle());
    let mut webhook = tokio::spawn(webhook);
    let mut metrics_server = tokio::spawn(metrics_server);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %arguments.listen,
        metrics_listen = %arguments.metrics_listen,
        "started"
    );

    let owner = own_role(&gated).await;
    let keeper = Keeper {
        client: gated.clone(),
        namespace: arguments.namespace.clone(),
        secret: SECRET.to_owned(),
        configuration: arguments.webhook_configuration.clone(),
        dns_names: dns_names(&arguments),
        owner: owner.clone(),
        now: Arc::new(|| SystemClock.now_ms() / 1_000),
    };
    let mut follower = tokio::spawn(keeper.clone().follow(identity));

    let cluster_lease =
        ClusterLease { api: Api::namespaced(lease_client, &arguments.namespace), name: LEASE.to_owned(), owner };
    let mut elector = Elector::new(cluster_lease, unique(&arguments.identity), lease.clone());
    let manage = arguments.manage_crds;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
        error = lead(&mut elector, manage, gated, keeper, world) => Err(error),
        served = &mut webhook => Err(ended("the webhook's listener", served)),
        served = &mut metrics_server => Err(ended("the metrics' listener", served)),
        _ = &mut follower => Err(anyhow::anyhow!("following the webhook's certificate ended")),
    };
    // `lead` is dropped by now, and with it every write that was under way.
    elector.release().await;
    match ended {
        Ok(signal) => {
            tracing::info!(signal, "stopping");
            // The API server may still send reviews until it has seen that this endpoint goes.
            tokio::join!(webhook_handle.stop(true), metrics_handle.stop(true));
            Ok(())
        }
        Err(error) => {
            tracing::error!(error = %format!("{error:#}"), "ending");
            Err(error)
        }
    }
}

/// Waits for the lease, then leads until it is lost. Always ends with an error.
async fn lead(
    elector: &mut Elector<ClusterLease>,
    manage_definitions: bool,
    client: Client,
    keeper: Keeper,
    world: Arc<World>,
) -> anyhow::Error {
    elector.acquire().await;
    tracing::info!("holding the lease");
    let work = async {
        if manage_definitions {
            apply_definitions(client).await;
        }
        tokio::join!(keeper.lead(), ers_controllers::run::run(world));
    };
    tokio::select! {
        // The lease first: work is not polled again once it is lost.
        biased;
        error = elector.hold() => anyhow::Error::new(error),
        () = work => anyhow::anyhow!("the controllers ended"),
    }
}

/// Until it worked: without the kinds there is nothing to do.
async fn apply_definitions(client: Client) {
    while let Err(error) = definitions::apply(client.clone()).await {
        tracing::warn!(error = %format!("{error:#}"), "the definitions were not applied; trying again");
        tokio::time::sleep(DEFINITIONS_RETRY).await;
    }
}

/// The operator's own ClusterRole, which goes when it is uninstalled, and takes with it what the operator made for itself.
async fn own_role(client: &Client) -> Option<OwnerReference> {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    match tokio::time::timeout(WRITE_TIMEOUT, roles.get_opt(ROLE)).await {
        Ok(Ok(role)) => Some(OwnerReference {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: ROLE.to_owned(),
            uid: role?.metadata.uid?,
            ..OwnerReference::default()
        }),
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "the operator's ClusterRole was not read; its Secret and Lease will outlive it");
            None
        }
        Err(_) => None,
    }
}

fn ended(what: &str, served: Result<std::io::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match served {
        Ok(Ok(())) => anyhow::anyhow!("{what} ended"),
        Ok(Err(error)) => anyhow::Error::new(error).context(format!("{what} ended")),
        Err(error) => anyhow::Error::new(error).context(format!("{what} ended")),
    }
}

fn settings(arguments: &Run) -> Settings {
    Settings {
        namespace: arguments.namespace.clone(),
        server_image: arguments.server_image.clone(),
        agent_image: arguments.agent_image.clone(),
        image_pull_policy: arguments.image_pull_policy.clone(),
        cluster_name: arguments.cluster_name.clone(),
        region: arguments.region.clone().filter(|region| !region.is_empty()),
        node_cidrs: arguments.node_cidrs.iter().filter(|range| !range.is_empty()).cloned().collect(),
    }
}

fn dns_names(arguments: &Run) -> Vec<String> {
    let (service, namespace) = (&arguments.service, &arguments.namespace);
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
    ]
}

/// The pod's name, and this process's start: a container that was restarted is another candidate.
fn unique(identity: &str) -> String {
    format!("{identity}-{:x}", SystemClock.now_ms())
}
