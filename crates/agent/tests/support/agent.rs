//! The agent's program as a child process, with a folder of its own.

use super::server::{PATIENCE, Server};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Files of one agent, and the process while it runs. Ends the process when dropped.
pub struct Agent {
    pub folder: tempfile::TempDir,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

pub const HOST: &str = r#"[{"kind": "HostMetrics", "name": "host"}]"#;

#[allow(dead_code, reason = "each test binary uses its part of this module")]
impl Agent {
    /// Writes configuration, token and authority for a server; starts nothing.
    pub fn prepare(server: &Server, sources: &str, spool_bytes: u64) -> Agent {
        let folder = tempfile::tempdir().expect("folder");
        let agent = Agent { folder, child: None, log: Arc::default() };
        std::fs::write(agent.path("token"), "first-token\n").expect("token");
        std::fs::write(agent.path("ca.crt"), &server.authority).expect("authority");
        agent.configure(&server.url(), sources, spool_bytes);
        agent
    }

    pub fn configure(&self, url: &str, sources: &str, spool_bytes: u64) {
        let config = format!(
            r#"{{"version": 1, "configHash": "hash1", "namespace": "n", "target": "t",
                "destination": {{"url": "{url}", "caFile": "{}", "tokenFile": "{}"}},
                "intervalSeconds": 1, "timeoutSeconds": 1,
                "limits": {{"maxSeries": 100000, "maxLabels": 40, "maxBodyBytes": 10000000}},
                "spool": {{"maxBytes": {spool_bytes}}}, "sources": {sources}}}"#,
            self.path("ca.crt").display(),
            self.path("token").display(),
        );
        std::fs::write(self.path("agent.json"), config).expect("configuration");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ers-agent"));
        command.env_clear().env("NODE_NAME", "node-1").env("RUST_BACKTRACE", "1");
        command
    }

    pub fn start(&mut self, extra: &[&str]) {
        let mut child = Self::command()
            .arg("run")
            .arg("--config")
            .arg(self.path("agent.json"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--ready-file")
            .arg(self.path("ready"))
            .args(extra)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        let errors = child.stderr.take().expect("stderr");
        let log = self.log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                println!("{line}");
                log.lock().expect("lock").push(line);
            }
        });
        self.child = Some(child);
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// `SIGKILL`, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    /// `SIGTERM`; the exit code and how long the end took.
    pub fn terminate(&mut self) -> (Option<i32>, std::time::Duration) {
        let mut child = self.child.take().expect("running");
        let began = Instant::now();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
        let status = child.wait().expect("ended");
        (status.code(), began.elapsed())
    }

    pub fn is_ready(&self) -> bool {
        let file = self.path("ready");
        Self::command()
            .arg("health")
            .arg("--ready-file")
            .arg(file)
            .stderr(Stdio::null())
            .status()
            .expect("health")
            .success()
    }

    /// Runs another subcommand to its end: whether it succeeded, and what it said.
    pub fn ask(arguments: &[&str]) -> (bool, String) {
        let output = Self::command().args(arguments).output().expect("the program runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn spool(&self, command: &str) -> (bool, String) {
        let (config, state) = (self.path("agent.json"), self.path("state"));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Self::ask(&["spool", command, "--config", &text(&config), "--state-dir", &text(&state)])
    }

    /// Waits until a log line contains a text.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.log.lock().expect("lock").iter().any(|line| line.contains(text)) {
            assert!(Instant::now() < until, "waited in vain for {text:?} in the log");
            std::thread::yield_now();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
