//! Brings a server up and down.

mod listen;

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
use ers_plan::ServerConfig;
use ers_store::{SqliteStore, Store, Tenant, TenantId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::app::App;
use crate::boot::{DataFolder, TenantMark};
use crate::ers::openapi;
use crate::http::{Listener, routes};
use crate::metrics::ServerMetrics;
use crate::readiness::{Part, Readiness};
use crate::tls::{CertificateSource, CurrentCertificate};

/// How often the certificate is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(60);

/// What a server is started with.
pub struct Options {
    pub config: ServerConfig,
    pub data_dir: PathBuf,
    pub clock: Arc<dyn Clock>,
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
    let Options { config, data_dir, clock } = options;
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
    let auth = Authenticator::new(store.clone(), clock.clone(), tenant, SessionLimits::default(), hasher, None);
    let table = Arc::new(routes::all());
    let readiness = Arc::new(Readiness::default());
    readiness.set(Part::Configuration, None);
    let app = Arc::new(App {
        api_description: openapi::describe(&table),
        config,
        clock: clock.clone(),
        store,
        auth,
        metrics: Arc::new(ServerMetrics::default()),
        readiness,
        admin: admin.id,
        admin_password_file: data.admin_password_file(),
    });
    let mut tasks = Vec::new();
    tasks.push(tokio::spawn(watch_certificate(source, certificate.clone(), clock, stop.clone())));

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
        tasks,
        stop,
    };
    for (socket, listener) in [(https, Listener::Main), (metrics, Listener::Metrics)] {
        let server = listen::serve(socket, listener, &table, &app, certificate.clone())?;
        running.handles.push(server.handle());
        running.servers.push(tokio::spawn(server));
    }
    tracing::info!(
        https = %running.https,
        metrics = %running.metrics,
        namespace = running.app.config.namespace,
        policy = running.app.config.policy,
        tenant = %running.app.config.tenant,
        version = env!("CARGO_PKG_VERSION"),
        "server started"
    );
    Ok(running)
}

fn certificate_source(config: &ServerConfig, data: &DataFolder) -> CertificateSource {
    match &config.tls.certificate_dir {
        Some(folder) => CertificateSource::Folder(folder.into()),
        None => CertificateSource::Own { file: data.tls_file(), names: config.tls.names.clone() },
    }
}

async fn watch_certificate(
    source: CertificateSource,
    current: Arc<CurrentCertificate>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(CERTIFICATE_CHECK);
    loop {
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        match source.current(clock.as_ref()) {
            Ok(material) => {
                if current.set(material) {
                    tracing::info!("certificate replaced; open connections keep theirs");
                }
            }
            // The one in use stays.
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the certificate could not be renewed, the present one stays in use"
                );
            }
        }
    }
}

impl Running {
    /// Ends everything in order: no new requests, then the tasks, then the stores. Errors are logged: there is nothing else to do with them.
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
        for task in self.tasks {
            drop(task.await);
        }
        if let Err(error) = self.app.store.close().await {
            tracing::error!(error = &error as &dyn std::error::Error, "the state store was not closed in order");
        }
        drop(self.data);
        tracing::info!("server stopped");
    }
}
