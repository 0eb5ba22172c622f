//! `ers-agent run`: puts the parts together, keeps them going, and ends within seconds.

use crate::config::{self, ConfigError};
use crate::host::{NetworkSource, Options, Roots};
use crate::http::Reach;
use crate::metrics::AgentMetrics;
use crate::queue::{Queue, QueueError, tenant};
use crate::ready::{ProcessIdentity, ReadyError, ReadyLatch};
use crate::sender::{Destination, DestinationError, Shared, backlog_lane, drain, newest_lane};
use crate::source;
use crate::source::kubelet::KubeletSource;
use crate::source::own::Own;
use crate::source::pods::{KubeApi, PodsSource};
use crate::source::scrape::Buffers;
use ers_journal::Journal;
use ers_model::agent_config::{AgentConfig, Source};
use ers_model::{Clock, SystemClock};
use ers_telemetry::Metrics;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

/// How long what is left may take to be sent at the end; the rest stays in the spool.
const FAREWELL: Duration = Duration::from_secs(3);
/// The longest that a batch is only in the kernel's memory.
const SYNC_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments and environment of a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub config: PathBuf,
    pub state_dir: PathBuf,
    pub ready_file: Option<PathBuf>,
    pub roots: Roots,
    /// Name of the node: `NODE_NAME`, or the machine's own name.
    pub node: String,
    /// Address of the node's kubelet: `HOST_IP`.
    pub host_ip: Option<String>,
    /// Whether the agent runs as a pod.
    pub in_cluster: bool,
    /// Folder with `token` and `ca.crt` of the pod's service account.
    pub service_account: PathBuf,
    /// The API server, where there is one.
    pub api: Option<KubeApi>,
    /// Port of the kubelet.
    pub kubelet_port: u16,
    /// End when standard input closes: a supervisor holds the other end of the pipe, and even one that was killed lets go of it.
    pub end_with_stdin: bool,
}

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(ConfigError),
    #[error("the destination of the configuration cannot be used")]
    Destination(#[source] DestinationError),
    #[error("the state directory cannot be used")]
    Queue(#[source] QueueError),
    #[error("this process cannot be told from others")]
    Identity(#[source] ReadyError),
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    #[error("signals cannot be waited for")]
    Signals(#[source] std::io::Error),
    #[error("source {name}: {problem}")]
    Source { name: String, problem: &'static str },
}

/// Runs until SIGTERM or SIGINT.
pub fn run(options: &RunOptions) -> Result<(), RunError> {
    let config = config::load(&options.config).map_err(RunError::Config)?;
    let identity = ProcessIdentity::current().map_err(RunError::Identity)?;
    let destination = Destination::new(&config).map_err(RunError::Destination)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut metrics = Metrics::new("agent");
    let own = AgentMetrics::default();
    own.register(&mut metrics);
    let owner = tenant(&config.namespace, &config.target);
    let queue = Queue::open(&options.state_dir, owner, config.spool.max_bytes, clock, own).map_err(RunError::Queue)?;
    let ready = ReadyLatch::new(options.ready_file.clone(), identity, &config.config_hash);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(RunError::Runtime)?;
    tracing::info!(
        node = options.node,
        target = config.target,
        config_hash = config.config_hash,
        server = config.destination.url,
        "agent starts"
    );
    let local = LocalSet::new();
    let result = local.block_on(&runtime, serve(&config, options, Shared::new(queue, ready), destination, metrics));
    // A thread that hangs in a dead mount must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Waits for the end of standard input, whatever comes before it.
async fn stdin_closed() {
    // An input that cannot be read has ended too.
    drop(tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await);
}

async fn serve(
    config: &AgentConfig,
    options: &RunOptions,
    shared: Shared,
    destination: Destination,
    metrics: Metrics,
) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_local(newest_lane(shared.clone(), destination.clone()));
    tasks.spawn_local(backlog_lane(shared.clone(), destination.clone()));
    tasks.spawn_local(keep_synced(shared.clone()));
    let buffers = Buffers::default();
    let mut own = Some(Own::new(metrics, &options.node, &config.target));
    for source in &config.sources {
        start_source(source, config, options, &shared, &buffers, &mut own, &mut tasks)?;
    }
    if let Some(own) = own {
        let interval = Duration::from_secs(u64::from(config.interval_seconds));
        tasks.spawn_local(source::own::run(own, interval, shared.clone()));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_closed(), if options.end_with_stdin => tracing::info!("the supervisor is gone, the agent ends"),
        Some(ended) = tasks.join_next() => {
            // No task ends by itself: a panic. Better an end that the kubelet sees than half an agent.
            tracing::error!(?ended, "a task ended, the agent ends with it");
        }
    }
    tasks.shutdown().await;
    let began = Instant::now();
    let sent = tokio::time::timeout(FAREWELL, drain(shared.clone(), destination)).await.is_ok();
    let journal = shared.queue.borrow().journal().clone();
    sync(journal).await;
    let balance = shared.queue.borrow().balance();
    tracing::info!(
        all_tried = sent,
        shipped = balance.shipped,
        spooled = balance.spooled,
        dropped = balance.dropped,
        took_ms = began.elapsed().as_millis() as u64,
        "agent ends"
    );
    Ok(())
}

fn start_source(
    source: &Source,
    config: &AgentConfig,
    options: &RunOptions,
    shared: &Shared,
    buffers: &Buffers,
    own: &mut Option<Own>,
    tasks: &mut tokio::task::JoinSet<()>,
) -> Result<(), RunError> {
    let interval = Duration::from_secs(u64::from(config.interval_seconds));
    let timeout = Duration::from_secs(u64::from(config.timeout_seconds));
    match source {
        Source::HostMetrics { name } => {
            let problem = "there is another HostMetrics source: one machine is read once";
            let own = own.take().ok_or_else(|| RunError::Source { name: name.clone(), problem })?;
            let mut host = Options::for_roots(options.roots.clone());
            host.in_cluster = options.in_cluster;
            if host.network == NetworkSource::Files {
                tracing::info!("this /proc is not of the running kernel's network: devices are read from files");
            }
            tasks.spawn_local(source::host::run(
                source::host::HostSource {
                    options: host,
                    node: options.node.clone(),
                    target: config.target.clone(),
                    interval,
                    timeout,
                    limits: config.limits,
                },
                own,
                shared.clone(),
            ));
            Ok(())
        }
        Source::Kubelet { name, tls } => {
            let problem = "HOST_IP is not set: a Kubelet source needs the node's address";
            let address = options.host_ip.clone();
            let address = address.ok_or_else(|| RunError::Source { name: name.clone(), problem })?;
            let kubelet = KubeletSource {
                address,
                port: options.kubelet_port,
                tls: *tls,
                service_account: options.service_account.clone(),
                node: options.node.clone(),
                target: config.target.clone(),
                interval,
                timeout,
                limits: config.limits,
            };
            tasks.spawn_local(source::kubelet::run(kubelet, shared.clone(), buffers.clone()));
            Ok(())
        }
        Source::Pods { name, selector, endpoints } => {
            let problem = "KUBERNETES_SERVICE_HOST is not set: a Pods source needs a cluster";
            let api = options.api.clone();
            let api = api.ok_or_else(|| RunError::Source { name: name.clone(), problem })?;
            let pods = PodsSource {
                api,
                namespace: config.namespace.clone(),
                target: config.target.clone(),
                selector: selector.clone(),
                endpoints: endpoints.clone(),
                interval,
                timeout,
                limits: config.limits,
                reach: Reach::Pods,
            };
            tasks.spawn_local(source::pods::run(pods, shared.clone(), buffers.clone()));
            Ok(())
        }
    }
}

/// Sees to it that no batch is in the kernel's memory alone for longer than [`SYNC_INTERVAL`]. Never returns.
async fn keep_synced(shared: Shared) {
    loop {
        let notified = shared.news.notified();
        let wants = shared.queue.borrow().wants_sync();
        match wants {
            None => {
                notified.await;
                continue;
            }
            Some(at_once) if !at_once => {
                tokio::time::sleep(SYNC_INTERVAL).await;
                // Most batches are acknowledged by now, and need no sync.
                if shared.queue.borrow().wants_sync().is_none() {
                    continue;
                }
            }
            Some(_) => {}
        }
        let journal = {
            let mut queue = shared.queue.borrow_mut();
            queue.sync_begins();
            queue.journal().clone()
        };
        let seconds = sync(journal).await;
        shared.queue.borrow().metrics().spool_sync_seconds.set(seconds);
    }
}

/// Writes the spool to disk, on a thread that may block; how long it took.
async fn sync(journal: Arc<Journal>) -> f64 {
    let began = Instant::now();
    let synced = tokio::task::spawn_blocking(move || journal.sync()).await;
    match synced {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "spool cannot be written to disk");
        }
        Err(error) => tracing::error!(%error, "the thread that writes the spool to disk failed"),
    }
    began.elapsed().as_secs_f64()
}
