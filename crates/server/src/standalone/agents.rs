//! The agents of a standalone server: child processes, one per CollectorTarget of type Node, restarted with growing waits, ended with the server.
//!
//! A child holds the reading end of a pipe as its standard input and ends when that closes: so it ends even when the server is killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use ers_auth::token::{PresentedToken, TokenKind};
use ers_crds::ManagementState;
use ers_crds::validate::{TargetKind, ValidatedCollectorTarget};
use ers_model::agent_config::{AgentConfig, Destination};
use ers_plan::agent_config;
use ers_store::NewAgentKey;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::host_name;
use crate::app::App;
use crate::private_file;
use crate::tls::CurrentCertificate;

/// How often the agents' copy of the authority is compared.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A child that ran so long was well: the next wait is short again.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// After SIGTERM a child has this long before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What is known of a target's agent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// No agent is wanted, for this reason.
    NotWanted(NotWanted),
    /// It runs with this configuration; `proven` once a batch of it was acknowledged.
    Running { config_hash: String, proven: bool },
    /// It does not run.
    Down { since_ms: i64, why: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotWanted {
    Suspended,
    DryRun,
    /// Its node selector does not match this machine.
    NoMatchingNode,
    /// Type Pod.
    NeedsKubernetes,
    /// The server was started without an agent binary.
    NoBinary,
}

/// The states, shared with ingest (which proves) and with the conditions.
#[derive(Default)]
pub struct AgentBoard(Mutex<BTreeMap<String, AgentState>>);

impl AgentBoard {
    pub fn state_of(&self, target: &str) -> Option<AgentState> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(target).cloned()
    }

    /// A batch of this target's agent, made under this configuration, is durable.
    pub fn acknowledged(&self, target: &str, hash: &str) {
        let mut states = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(AgentState::Running { config_hash, proven }) = states.get_mut(target)
            && config_hash == hash
        {
            *proven = true;
        }
    }

    fn set(&self, target: &str, state: Option<AgentState>) {
        let mut states = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match state {
            Some(state) => states.insert(target.to_owned(), state),
            None => states.remove(target),
        };
    }
}

/// Keeps one child per wanted target.
pub struct Supervisor {
    pub app: Arc<App>,
    pub binary: Option<PathBuf>,
    pub folder: PathBuf,
    /// Where agents reach the server.
    pub url: String,
    pub certificate: Arc<CurrentCertificate>,
}

struct Keeper {
    config_hash: String,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Supervisor {
    pub async fn run(self, stop: CancellationToken) {
        let mut keepers: BTreeMap<String, Keeper> = BTreeMap::new();
        loop {
            let changed = self.app.objects.changed();
            let picture = self.app.objects.picture();
            if picture.synced {
                let gone: Vec<String> =
                    keepers.keys().filter(|name| !picture.targets.contains_key(*name)).cloned().collect();
                for name in gone {
                    self.end(&name, &mut keepers).await;
                    self.app.agents.set(&name, None);
                }
                for (name, known) in &picture.targets {
                    if let Some(active) = &known.active {
                        self.arrange(name, active, &mut keepers).await;
                    }
                }
            }
            tokio::select! {
                _ = stop.cancelled() => break,
                _ = changed => {}
                _ = tokio::time::sleep(REFRESH_EVERY) => {}
            }
            for name in keepers.keys() {
                self.refresh_authorities(&Files::of(&self.folder, name));
            }
        }
        let names: Vec<String> = keepers.keys().cloned().collect();
        // All at once: each may take its time to end.
        for name in &names {
            if let Some(keeper) = keepers.get(name) {
                keeper.stop.cancel();
            }
        }
        for name in names {
            self.end(&name, &mut keepers).await;
        }
    }

    /// Agents read the file anew for each connection.
    fn refresh_authorities(&self, files: &Files) {
        let wanted = &self.certificate.get().authorities;
        let present = private_file::read_text(&files.authorities()).ok().flatten();
        if present.as_ref() != Some(wanted)
            && let Err(error) = private_file::write(&files.authorities(), wanted.as_bytes())
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the authority could not be written for an agent"
            );
        }
    }

    async fn end(&self, name: &str, keepers: &mut BTreeMap<String, Keeper>) {
        if let Some(keeper) = keepers.remove(name) {
            keeper.stop.cancel();
            drop(keeper.task.await);
        }
    }

    async fn arrange(&self, name: &str, active: &ValidatedCollectorTarget, keepers: &mut BTreeMap<String, Keeper>) {
        let binary = match self.wanted(active) {
            // What runs goes on, nothing new is begun: that is what Suspended means.
            Err(NotWanted::Suspended) if keepers.contains_key(name) => return,
            Err(reason) => {
                self.end(name, keepers).await;
                self.app.agents.set(name, Some(AgentState::NotWanted(reason)));
                return;
            }
            Ok(binary) => binary,
        };
        let files = Files::of(&self.folder, name);
        let config = agent_config(active, files.destination(&self.url));
        if keepers.get(name).is_some_and(|keeper| keeper.config_hash == config.config_hash) {
            return;
        }
        self.end(name, keepers).await;
        if let Err(error) = self.prepare(name, &files, &config).await {
            tracing::error!(error = format!("{error:#}"), collector_target = name, "the agent could not be prepared");
            let since_ms = self.app.clock.now_ms();
            self.app.agents.set(name, Some(AgentState::Down { since_ms, why: format!("{error:#}") }));
            return;
        }
        let (stop, config_hash) = (CancellationToken::new(), config.config_hash.clone());
        let task =
            tokio::spawn(keep(self.app.clone(), name.to_owned(), binary, files, config_hash.clone(), stop.clone()));
        keepers.insert(name.to_owned(), Keeper { config_hash, stop, task });
    }

    fn wanted(&self, active: &ValidatedCollectorTarget) -> Result<PathBuf, NotWanted> {
        match active.management_state {
            ManagementState::Suspended => return Err(NotWanted::Suspended),
            ManagementState::DryRun => return Err(NotWanted::DryRun),
            ManagementState::Managed => {}
        }
        let TargetKind::Node { node_selector, .. } = &active.kind else { return Err(NotWanted::NeedsKubernetes) };
        let label = |name: &str| match name {
            "kubernetes.io/hostname" => Some(host_name()),
            "kubernetes.io/os" => Some("linux".to_owned()),
            _ => None,
        };
        if !node_selector.iter().all(|(name, value)| label(name).as_deref() == Some(value.as_str())) {
            return Err(NotWanted::NoMatchingNode);
        }
        self.binary.clone().ok_or(NotWanted::NoBinary)
    }

    async fn prepare(&self, name: &str, files: &Files, config: &AgentConfig) -> anyhow::Result<()> {
        std::fs::create_dir_all(files.state()).with_context(|| format!("cannot make {}", files.folder.display()))?;
        let text = serde_json::to_vec_pretty(config).context("the agent's configuration is no JSON")?;
        private_file::write(&files.config(), &text).context("the agent's configuration cannot be written")?;
        self.refresh_authorities(files);
        // A key that still works is kept: the agent may be sending with it.
        let kept = private_file::read_text(&files.token()).context("the agent's key cannot be read")?;
        if let Some(kept) = kept
            && self.app.auth.bearer(kept.trim()).await.is_ok()
        {
            return Ok(());
        }
        let key = PresentedToken::random(TokenKind::Agent);
        let new = NewAgentKey { target: name.to_owned(), node: host_name(), secret: key.hash() };
        self.app.store.enroll_agent(&self.app.system_audit(), key.id, new).await?;
        private_file::write(&files.token(), key.reveal().as_bytes()).context("the agent's key cannot be written")
    }
}

/// Files of one target's agent.
struct Files {
    folder: PathBuf,
}

impl Files {
    fn of(agents: &Path, target: &str) -> Self {
        Files { folder: agents.join(target) }
    }

    fn config(&self) -> PathBuf {
        self.folder.join("agent.json")
    }

    fn token(&self) -> PathBuf {
        self.folder.join("token")
    }

    fn authorities(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn ready(&self) -> PathBuf {
        self.folder.join("ready")
    }

    fn destination(&self, url: &str) -> Destination {
        Destination {
            url: url.to_owned(),
            ca_file: self.authorities().display().to_string(),
            token_file: self.token().display().to_string(),
        }
    }
}

async fn keep(
    app: Arc<App>,
    target: String,
    binary: PathBuf,
    files: Files,
    config_hash: String,
    stop: CancellationToken,
) {
    let mut wait = FIRST_WAIT;
    loop {
        let began = tokio::time::Instant::now();
        let why = match spawn(&binary, &files) {
            Err(error) => format!("{} cannot be started: {error}", binary.display()),
            Ok(mut child) => {
                tracing::info!(collector_target = target, pid = child.id(), config_hash, "agent started");
                // Taken out and held until the child has ended: `wait` closes a pipe that it finds, and the agent would end at once.
                let _held_open = child.stdin.take();
                let running = AgentState::Running { config_hash: config_hash.clone(), proven: false };
                app.agents.set(&target, Some(running));
                tokio::select! {
                    ended = child.wait() => match ended {
                        Ok(status) => format!("the agent ended: {status}"),
                        Err(error) => format!("the agent could not be waited for: {error}"),
                    },
                    _ = stop.cancelled() => {
                        end_child(&mut child).await;
                        return;
                    }
                }
            }
        };
        app.metrics.agent_restarts.inc();
        if began.elapsed() >= WELL_AFTER {
            wait = FIRST_WAIT;
        }
        tracing::error!(
            collector_target = target,
            why,
            wait_seconds = wait.as_secs(),
            "agent is down, starting it again"
        );
        let since_ms = match app.agents.state_of(&target) {
            Some(AgentState::Down { since_ms, .. }) => since_ms,
            _ => app.clock.now_ms(),
        };
        app.agents.set(&target, Some(AgentState::Down { since_ms, why }));
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn spawn(binary: &Path, files: &Files) -> std::io::Result<Child> {
    Command::new(binary)
        .arg("run")
        .arg("--config")
        .arg(files.config())
        .arg("--state-dir")
        .arg(files.state())
        .arg("--ready-file")
        .arg(files.ready())
        .arg("--node-name")
        .arg(host_name())
        .arg("--end-with-stdin")
        // Its log goes where ours goes; it writes nothing else.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
}

async fn end_child(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        tracing::warn!(error = &error as &dyn std::error::Error, "an agent could not be told to end");
    }
    if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
        drop(child.kill().await);
    }
}
