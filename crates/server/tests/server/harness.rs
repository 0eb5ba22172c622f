//! Starts servers and speaks to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use ers_auth::token::{PresentedToken, TokenKind};
use ers_model::{Clock, SystemClock};
use ers_plan::{
    ListenConfig, Mode, SERVER_CONFIG_VERSION, ServerConfig, ServerLimits, StorageConfig, TlsConfig, tenant_id,
};
use ers_server::run::{self, Options, Running};
use ers_store::{Actor, AuditContext, NewAgentKey, NewApiToken, NewUser, Role, Scope};
use serde_json::Value;

pub const NAMESPACE: &str = "demo";
pub const POLICY: &str = "reporting";

fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nobody else installs one");
    });
}

pub fn config() -> ServerConfig {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    ServerConfig {
        version: SERVER_CONFIG_VERSION,
        config_hash: "0123456789".to_owned(),
        mode: Mode::Standalone,
        namespace: NAMESPACE.to_owned(),
        policy: POLICY.to_owned(),
        tenant: tenant_id("local", NAMESPACE, POLICY),
        cluster: "local".to_owned(),
        region: Some("here".to_owned()),
        listen: ListenConfig { https: any_port, metrics: any_port },
        tls: TlsConfig { names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()], certificate_dir: None },
        storage: StorageConfig { max_bytes: 1 << 30, retention_days: 15 },
        limits: ServerLimits::default(),
    }
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
        let options = Options { config, data_dir: folder.path().join("data"), clock };
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
