//! Brings a server up and down.

mod listen;
mod tasks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use anyhow::Context as _;
use ers_auth::Authenticator;
use ers_auth::password::Hasher;
use ers_auth::session::SessionLimits;
use ers_model::Clock;
use ers_plan::{Place, ServerConfig};
use ers_store::{SqliteStore, Store, Tenant, TenantId};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::app::App;
use crate::boot::{DataFolder, TenantMark};
use crate::ers::live::LiveHub;
use crate::ers::openapi;
use crate::http::{Listener, routes};
use crate::memory::{self, Shares};
use crate::metrics::ServerMetrics;
use crate::objects::Objects;
use crate::overview::Overviews;
use crate::readiness::{Part, Readiness};
use crate::samples::Samples;
use crate::standalone::agents::AgentBoard;
use crate::tls::{CertificateSource, CurrentCertificate};
use crate::world::World;

/// Queries at the same time, per core; each may use all of them. Together they share a third of the memory.
const QUERIES_PER_CORE: usize = 2;
const MAX_SOCKETS: usize = 500;
/// What is left of the tasks after this long is abandoned.
const TASKS_GRACE: Duration = Duration::from_secs(15);

/// What a server is started with.
pub struct Options {
    pub config: ServerConfig,
    /// Where `config` was planned for.
    pub place: Place,
    pub data_dir: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub world: World,
}

/// A server that runs.
pub struct Running {
    pub app: Arc<App>,
    pub https: SocketAddr,
    pub metrics: SocketAddr,
    pub certificate: Arc<CurrentCertificate>,
    /// Held until the end: nobody else may work in the folder.
    data: DataFolder,
    handles: Vec<ServerHandle>,
    servers: Vec<JoinHandle<std::io::Result<()>>>,
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

/// Starts everything; when it returns, the ports answer.
pub async fn start(options: Options) -> anyhow::Result<Running> {
    let Options { config, place, data_dir, clock, world } = options;
    let data = DataFolder::take(&data_dir, &TenantMark::of(&config))?;
    let stop = CancellationToken::new();
    let source = certificate_source(&config, &data);
    let certificate = CurrentCertificate::new(source.current(clock.as_ref())?);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data.state_file()).await?);
    let tenant = TenantId(config.tenant);
    let audit = admin::system_audit(tenant, clock.as_ref(), &config.cluster, config.region.as_deref());
    let known = Tenant {
        id: tenant,
        cluster: config.cluster.clone(),
        namespace: config.namespace.clone(),
        policy: config.policy.clone(),
    };
    store.ensure_tenant(&audit, &known).await?;
    let hasher = Hasher::new().await.context("passwords cannot be hashed on this machine")?;
    let admin = admin::ensure(&store, &hasher, &audit, &data.admin_password_file()).await?;
    let samples = open_samples(&config, &data, &clock).await?;
    let surroundings = world.surroundings(&config, &data, &clock)?;
    let auth = Authenticator::new(
        store.clone(),
        clock.clone(),
        tenant,
        SessionLimits::default(),
        hasher,
        surroundings.kubernetes,
    );
    let table = Arc::new(routes::all(&config.limits));
    let readiness = Arc::new(Readiness::default());
    readiness.set(Part::Configuration, None);
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let app = Arc::new(App {
        api_description: openapi::describe(&table),
        config,
        clock: clock.clone(),
        store: store.clone(),
        auth,
        metrics: Arc::new(ServerMetrics::default()),
        readiness,
        samples: Arc::new(samples),
        objects: Arc::new(Objects::default()),
        overviews: Overviews::default(),
        live: LiveHub::default(),
        queries: Arc::new(Semaphore::new(cores * QUERIES_PER_CORE)),
        max_query_samples: Shares::of(memory::limit_bytes(), cores * QUERIES_PER_CORE).max_samples_per_query,
        sockets: Arc::new(Semaphore::new(MAX_SOCKETS)),
        agents: AgentBoard::default(),
        kept_statuses: surroundings.kept_statuses,
        secrets_dir: surroundings.secrets_dir,
        place,
        restart: CancellationToken::new(),
        stop: stop.clone(),
        admin: admin.id,
        admin_password_file: data.admin_password_file(),
    });

    let https = listen::bind(app.config.listen.https).await?;
    let metrics = listen::bind(app.config.listen.metrics).await?;
    let mut running = Running {
        https: https.local_addr()?,
        metrics: metrics.local_addr()?,
        app: app.clone(),
        certificate: certificate.clone(),
        data,
        handles: Vec::new(),
        servers: Vec::new(),
        tasks: Vec::new(),
        stop: stop.clone(),
    };
    for (socket, listener) in [(https, Listener::Main), (metrics, Listener::Metrics)] {
        let server = listen::serve(socket, listener, &table, &app, certificate.clone())?;
        running.handles.push(server.handle());
        running.servers.push(tokio::spawn(server));
    }
    let work = tasks::Work {
        source: surroundings.source,
        sink: surroundings.sink,
        secrets: surroundings.secrets,
        client: surroundings.client,
        agent_binary: surroundings.agent_binary,
        certificate_source: source,
        https: running.https,
        agents_folder: running.data.agents(),
    };
    running.tasks = tasks::spawn(&app, certificate, work).await?;
    tracing::info!(
        https = %running.https,
        metrics = %running.metrics,
        namespace = app.config.namespace,
        policy = app.config.policy,
        tenant = %app.config.tenant,
        version = env!("CARGO_PKG_VERSION"),
        "server started"
    );
    Ok(running)
}

async fn open_samples(config: &ServerConfig, data: &DataFolder, clock: &Arc<dyn Clock>) -> anyhow::Result<Samples> {
    let (dir, config, clock) = (data.samples(), config.clone(), clock.clone());
    let opened = tokio::task::spawn_blocking(move || Samples::open(&dir, &config, clock)).await?;
    let (samples, report) = opened.context("the sample store cannot be opened")?;
    let (segments, wal_samples, milliseconds) = (report.segments, report.wal_samples, report.elapsed_ms);
    if report.is_damaged() {
        tracing::error!(
            segments,
            wal_samples,
            milliseconds,
            ?report,
            "sample store opened; damage was set aside, acknowledged samples may be missing"
        );
    } else {
        tracing::info!(segments, wal_samples, milliseconds, "sample store opened");
    }
    Ok(samples)
}

fn certificate_source(config: &ServerConfig, data: &DataFolder) -> CertificateSource {
    match &config.tls.certificate_dir {
        Some(folder) => CertificateSource::Folder(folder.into()),
        None => CertificateSource::Own { file: data.tls_file(), names: config.tls.names.clone() },
    }
}

impl Running {
    /// Ends everything in order: the sockets and tasks are told, no new requests, then the stores. Errors are logged: there is nothing else to do with them.
    pub async fn stop(self) {
        self.stop.cancel();
        for handle in &self.handles {
            handle.stop(true).await;
        }
        for server in self.servers {
            if let Ok(Err(error)) = server.await {
                tracing::error!(error = &error as &dyn std::error::Error, "a listener ended with an error");
            }
        }
        let ended = futures::future::join_all(self.tasks);
        if tokio::time::timeout(TASKS_GRACE, ended).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        let db = self.app.samples.db().clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || db.sync()).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the sample store was not synced");
        }
        if let Err(error) = self.app.store.close().await {
            tracing::error!(error = &error as &dyn std::error::Error, "the state store was not closed in order");
        }
        drop(self.data);
        tracing::info!("server stopped");
    }
}
