//! Everything that goes on beside requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ers_model::Clock;
use ers_secrets::SecretSource;
use ers_source::{ObjectSource, StatusSink};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::cluster::Publisher;
use crate::ers::live::LiveHub;
use crate::objects::follow::Follower;
use crate::objects::report::{self, Facts, Reporter};
use crate::standalone::agents::Supervisor;
use crate::tls::{CertificateSource, CurrentCertificate};

/// How often the certificate is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(60);

/// What the tasks work with.
pub struct Work {
    pub source: Arc<dyn ObjectSource>,
    pub sink: Arc<dyn StatusSink>,
    pub secrets: Arc<dyn SecretSource>,
    pub client: Option<kube::Client>,
    pub agent_binary: Option<Option<PathBuf>>,
    pub certificate_source: CertificateSource,
    pub https: SocketAddr,
    pub agents_folder: PathBuf,
}

pub async fn spawn(
    app: &Arc<App>,
    certificate: Arc<CurrentCertificate>,
    work: Work,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let stop = &app.stop;
    let facts = Arc::new(Facts::default());
    let for_audit = app.clone();
    let follower = Follower {
        objects: app.objects.clone(),
        source: work.source,
        sink: work.sink.clone(),
        store: app.store.clone(),
        namespace: app.config.namespace.clone(),
        policy: app.config.policy.clone(),
        audit: Box::new(move || for_audit.system_audit()),
    };
    follower.restore().await?;
    let mut tasks = vec![
        tokio::spawn(follower.run(stop.clone())),
        tokio::spawn(report::watch_storage(app.clone(), facts.clone(), stop.clone())),
        tokio::spawn(report::watch_secrets(app.clone(), work.secrets, facts.clone(), stop.clone())),
        tokio::spawn(report::maintain(app.clone(), stop.clone())),
        tokio::spawn(Reporter::new(app.clone(), work.sink, facts).run(stop.clone())),
        tokio::spawn(LiveHub::run(app.clone(), stop.clone())),
        tokio::spawn(watch_certificate(work.certificate_source, certificate.clone(), app.clock.clone(), stop.clone())),
    ];
    if let Some(client) = work.client {
        let password_file = app.admin_password_file.clone();
        let publisher = Publisher { app: app.clone(), client, certificate: certificate.clone(), password_file };
        tasks.push(tokio::spawn(publisher.run(stop.clone())));
    }
    if let Some(binary) = work.agent_binary {
        let supervisor = Supervisor {
            app: app.clone(),
            binary,
            folder: work.agents_folder,
            url: format!("https://{}", reachable(work.https)),
            certificate,
        };
        tasks.push(tokio::spawn(supervisor.run(stop.clone())));
    }
    Ok(tasks)
}

/// Where a process of this machine reaches a listener.
fn reachable(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    SocketAddr::new(ip, listener.port())
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
