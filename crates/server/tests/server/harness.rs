//! Starts servers and speaks to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use ers_auth::token::{PresentedToken, TokenKind};
use ers_crds::ReportPolicy;
use ers_model::{Clock, Labels, Sample, SystemClock};
use ers_plan::{ListenConfig, Mode, Place, ServerConfig, server_config};
use ers_server::run::{self, Options, Running};
use ers_server::standalone::Settings;
use ers_server::world::World;
use ers_store::{Actor, AuditContext, NewAgentKey, NewApiToken, NewUser, Role, Scope};
use ers_wire::remote_write::{TimeSeries, encode};
use serde_json::Value;

pub const NAMESPACE: &str = "demo";
pub const POLICY: &str = "reporting";

pub fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nobody else installs one");
    });
}

/// The boot settings of the policy in [`POLICY_YAML`], on ports that the system chooses.
pub fn config() -> ServerConfig {
    let policy: ReportPolicy = serde_json::from_value(serde_json::json!({
        "apiVersion": "reporting.ers.dev/v1alpha1",
        "kind": "ReportPolicy",
        "metadata": {"name": POLICY, "namespace": NAMESPACE},
        "spec": {},
    }))
    .unwrap();
    let valid = ers_crds::validate::report_policy(&policy, None).unwrap();
    server_config(&valid, &default_place()).unwrap()
}

fn default_place() -> Place {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Place {
        mode: Mode::Standalone,
        cluster: "local".to_owned(),
        region: Some("here".to_owned()),
        listen: ListenConfig { https: any_port, metrics: any_port },
        certificate_dir: String::new(),
        further_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    }
}

/// What the server plans for again: without this, a test with other settings would be asked to restart.
fn place(config: &ServerConfig) -> Place {
    Place { certificate_dir: config.tls.certificate_dir.clone().unwrap_or_default(), ..default_place() }
}

pub const POLICY_YAML: &str = "
apiVersion: reporting.ers.dev/v1alpha1
kind: ReportPolicy
metadata: {name: reporting}
spec: {}
";

/// A target whose agents nobody runs: the tests send in their place.
pub const NODES_YAML: &str = "
apiVersion: reporting.ers.dev/v1alpha1
kind: CollectorTarget
metadata: {name: nodes}
spec:
  type: Node
  intervalSeconds: 5
  node:
    sources: [{name: host, kind: HostMetrics}]
";

pub fn settings(root: &Path) -> Settings {
    let settings = Settings {
        manifests: root.join("manifests"),
        secrets_dir: root.join("secrets"),
        data_dir: root.join("data"),
        namespace: NAMESPACE.to_owned(),
        cluster: "local".to_owned(),
        region: Some("here".to_owned()),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        metrics_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        agent_binary: None,
    };
    std::fs::create_dir_all(&settings.secrets_dir).unwrap();
    if !settings.manifests.exists() {
        std::fs::create_dir_all(&settings.manifests).unwrap();
        std::fs::write(settings.manifests.join("policy.yaml"), POLICY_YAML).unwrap();
        std::fs::write(settings.manifests.join("nodes.yaml"), NODES_YAML).unwrap();
    }
    settings
}

pub struct TestServer {
    pub running: Running,
    pub folder: tempfile::TempDir,
    pub client: reqwest::Client,
    pub url: String,
    pub metrics_url: String,
}

impl TestServer {
    pub async fn start() -> Self {
        TestServer::start_in(tempfile::tempdir().unwrap(), config()).await
    }

    pub async fn start_in(folder: tempfile::TempDir, config: ServerConfig) -> Self {
        install_provider();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let settings = settings(folder.path());
        let place = place(&config);
        let options =
            Options { config, place, data_dir: settings.data_dir.clone(), clock, world: World::Standalone(settings) };
        let running = run::start(options).await.expect("the server starts");
        let client = client(&running.certificate.get().authorities);
        TestServer {
            url: format!("https://127.0.0.1:{}", running.https.port()),
            metrics_url: format!("https://127.0.0.1:{}", running.metrics.port()),
            client,
            running,
            folder,
        }
    }

    /// Ends the server and gives back its folder.
    pub async fn stop(self) -> tempfile::TempDir {
        self.running.stop().await;
        self.folder
    }

    pub fn admin_password(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/admin-password")).expect("the first password is kept")
    }

    pub fn audit(&self) -> AuditContext {
        AuditContext {
            tenant: self.running.app.tenant(),
            at_ms: SystemClock.now_ms(),
            actor: Actor::system(),
            request_id: String::new(),
            source_ip: String::new(),
            cluster: String::new(),
            region: String::new(),
        }
    }

    pub async fn log_in(&self, user: &str, password: &str) -> Session {
        let response = self.try_log_in(user, password).await;
        assert_eq!(response.status(), 200, "log-in of {user}");
        let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        Session { cookie, csrf: body["csrfToken"].as_str().unwrap().to_owned(), body }
    }

    pub async fn try_log_in(&self, user: &str, password: &str) -> reqwest::Response {
        let body = serde_json::json!({"username": user, "password": password});
        self.client.post(format!("{}/ers/v1/session", self.url)).json(&body).send().await.unwrap()
    }

    pub async fn admin(&self) -> Session {
        self.log_in("admin", &self.admin_password()).await
    }

    /// A user with the role Viewer, logged in.
    pub async fn viewer(&self) -> Session {
        let app = &self.running.app;
        let password_hash = app.auth.hasher().hash("a viewer's password").await.unwrap();
        let user = NewUser { name: "viewer".to_owned(), password_hash, role: Role::Viewer };
        app.store.create_user(&self.audit(), user).await.unwrap();
        self.log_in("viewer", "a viewer's password").await
    }

    pub async fn token(&self, scopes: &[Scope]) -> String {
        let token = PresentedToken::random(TokenKind::Api);
        let new =
            NewApiToken { name: "test".to_owned(), secret: token.hash(), scopes: scopes.to_vec(), expires_at_ms: None };
        self.running.app.store.create_token(&self.audit(), token.id, new).await.unwrap();
        token.reveal()
    }

    pub async fn agent_key(&self, target: &str, node: &str) -> String {
        let key = PresentedToken::random(TokenKind::Agent);
        let new = NewAgentKey { target: target.to_owned(), node: node.to_owned(), secret: key.hash() };
        self.running.app.store.enroll_agent(&self.audit(), key.id, new).await.unwrap();
        key.reveal()
    }

    /// Waits until the objects of the folder are known and the stores were looked at.
    pub async fn ready(&self) {
        self.until("ready", async || self.get("/readyz").send().await.unwrap().status() == 200).await;
        let objects = &self.running.app.objects;
        self.until("synced", async || objects.picture().synced).await;
    }

    /// Asks again and again, for half a minute at most.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds().await {
            assert!(tokio::time::Instant::now() < deadline, "never {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends series as a remote writer does.
    pub async fn write(&self, credential: &str, series: &[(Labels, Vec<Sample>)]) -> reqwest::Response {
        self.post("/api/v1/write")
            .bearer_auth(credential)
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .body(body(series))
            .send()
            .await
            .unwrap()
    }

    /// `data` of a successful answer.
    pub async fn data(&self, credential: &str, path: &str) -> Value {
        let response = self.get(path).bearer_auth(credential).send().await.unwrap();
        let status = response.status();
        let mut body: Value = response.json().await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body["data"].take()
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.url))
    }

    pub fn delete(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.delete(format!("{}{path}", self.url))
    }
}

/// A body of remote write 1.0.
pub fn body(series: &[(Labels, Vec<Sample>)]) -> Vec<u8> {
    let series: Vec<TimeSeries<'_>> = series.iter().map(|(labels, samples)| TimeSeries { labels, samples }).collect();
    encode(&series, &[])
}

/// Trusts these authorities and no others.
pub fn client(authorities: &str) -> reqwest::Client {
    install_provider();
    let authorities = reqwest::Certificate::from_pem_bundle(authorities.as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only(authorities)
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

pub struct Session {
    pub cookie: String,
    pub csrf: String,
    pub body: Value,
}

/// How a request proves who it is.
pub trait Credential {
    fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder;
}

impl Credential for Session {
    fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.header("Cookie", &self.cookie).header("X-CSRF-Token", &self.csrf)
    }
}

impl Credential for String {
    fn on(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.bearer_auth(self)
    }
}

pub fn path_exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}
