//! The program itself: started, killed, asked on its command line.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ers_model::{Clock as _, Labels, Sample, SystemClock};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::harness::{body, client, settings};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ers-server");

struct Process {
    child: Child,
    url: String,
    data: PathBuf,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn start(root: &Path, port: u16) -> Process {
    start_with_agent(root, port, Path::new("/nonexistent/ers-agent")).await
}

async fn start_with_agent(root: &Path, port: u16, agent: &Path) -> Process {
    let settings = settings(root);
    let child = Command::new(PROGRAM)
        .arg("standalone")
        .arg("--manifests")
        .arg(&settings.manifests)
        .arg("--secrets-dir")
        .arg(&settings.secrets_dir)
        .arg("--data-dir")
        .arg(&settings.data_dir)
        .args(["--namespace", "demo", "--region", "here", "--agent-binary"])
        .arg(agent)
        .args(["--listen", &format!("127.0.0.1:{port}"), "--metrics-listen", &format!("127.0.0.1:{}", free_port())])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(std::fs::File::create(root.join("log")).unwrap()))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let process = Process { child, url: format!("https://127.0.0.1:{port}"), data: settings.data_dir };
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        tick.tick().await;
        let ready = command(&["health", "--data-dir", process.data.to_str().unwrap(), "--url", &process.url]).await;
        if ready.0 {
            return process;
        }
        let log = std::fs::read_to_string(root.join("log")).unwrap_or_default();
        assert!(tokio::time::Instant::now() < deadline, "never ready: {ready:?}\n{log}");
    }
}

/// Whether it worked, and what it said.
async fn command(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(PROGRAM).args(arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

async fn token(process: &Process, scope: &str) -> String {
    let data = process.data.to_str().unwrap();
    let made = command(&["token", "create", "--data-dir", data, "--name", scope, "--scope", scope]).await;
    assert!(made.0, "{made:?}");
    made.1
}

fn http(process: &Process) -> reqwest::Client {
    let state: Value = serde_json::from_str(&std::fs::read_to_string(process.data.join("tls.json")).unwrap()).unwrap();
    client(state["authorities"][0]["certificate"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_sample_is_there_after_a_kill_in_mid_load() {
    let root = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut process = start(root.path(), port).await;
    let (write, read) = (token(&process, "write").await, token(&process, "read").await);
    let http = http(&process);
    let base = SystemClock.now_ms() - 3_600_000;
    let (acknowledged, enough) =
        (std::sync::Arc::new(std::sync::Mutex::new(Vec::new())), std::sync::Arc::new(tokio::sync::Notify::new()));
    let mut senders = Vec::new();
    for sender in 0..4_i64 {
        let (http, write, url) = (http.clone(), write.clone(), format!("{}/api/v1/write", process.url));
        let (acknowledged, enough) = (acknowledged.clone(), enough.clone());
        senders.push(tokio::spawn(async move {
            for batch in 0..100_000_i64 {
                let series: Vec<(Labels, Vec<Sample>)> = (0..50)
                    .map(|number: i64| {
                        let labels = Labels::from_pairs([
                            ("__name__", "load".to_owned()),
                            ("sender", sender.to_string()),
                            ("number", number.to_string()),
                        ]);
                        (labels, vec![Sample { timestamp_ms: base + batch * 1_000, value: batch as f64 }])
                    })
                    .collect();
                let sent = http
                    .post(&url)
                    .bearer_auth(&write)
                    .header("Content-Encoding", "snappy")
                    .body(body(&series))
                    .send()
                    .await;
                match sent {
                    Ok(answer) if answer.status() == 204 => {
                        let mut acknowledged = acknowledged.lock().unwrap();
                        acknowledged.push((sender, batch));
                        if acknowledged.len() == 120 {
                            enough.notify_one();
                        }
                    }
                    Ok(answer) => panic!("{}", answer.status()),
                    // The server is gone, as is meant.
                    Err(_) => return,
                }
            }
        }));
    }
    enough.notified().await;
    process.child.kill().await.unwrap();
    for sender in senders {
        sender.await.unwrap();
    }
    let mut process = start(root.path(), port).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= 120);
    let mut lost = Vec::new();
    for sender in 0..4_i64 {
        let batches: Vec<i64> =
            acknowledged.iter().filter(|(from, _)| *from == sender).map(|(_, batch)| *batch).collect();
        let last = batches.iter().max().copied().unwrap_or(0);
        let query = format!("load{{sender=\"{sender}\"}}[{}s]", last + 10);
        let time = (base + last * 1_000) as f64 / 1_000.0 + 1.0;
        let parameters = [("query", query), ("time", time.to_string())];
        let url = format!("{}/api/v1/query", process.url);
        let answer: Value =
            http.get(&url).bearer_auth(&read).query(&parameters).send().await.unwrap().json().await.unwrap();
        let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!(series.len(), 50);
        for one in series {
            let values: std::collections::BTreeSet<String> =
                one["values"].as_array().unwrap().iter().map(|pair| pair[1].as_str().unwrap().to_owned()).collect();
            lost.extend(
                batches.iter().filter(|batch| !values.contains(&batch.to_string())).map(|batch| (sender, *batch)),
            );
        }
    }
    assert_eq!(lost, [], "of {} acknowledged requests", acknowledged.len());
    process.child.kill().await.unwrap();
}

/// Whether a process of this id is there (and not just waiting to be reaped).
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().is_empty() && !rest.trim_start().starts_with('Z'))
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never {what}");
        tick.tick().await;
    }
}

/// The whole of standalone: real host metrics by a real agent, proven, restarted when it is killed, gone when the server is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_supervised_and_its_target_becomes_ready() {
    let agent = Path::new(PROGRAM).with_file_name("ers-agent");
    assert!(
        agent.is_file(),
        "{} is not built: `cargo build -p ers-agent` with the same profile builds it, `make test` does so",
        agent.display()
    );
    let root = tempfile::tempdir().unwrap();
    let mut process = start_with_agent(root.path(), free_port(), &agent).await;
    let read = token(&process, "read").await;
    let http = http(&process);
    let get = async |path: &str| -> Value {
        http.get(format!("{}{path}", process.url)).bearer_auth(&read).send().await.unwrap().json().await.unwrap()
    };
    let mut objects = Value::Null;
    eventually("ready", async || {
        objects = get("/ers/v1/objects").await;
        let target = objects["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["name"] == "nodes")
            .cloned()
            .unwrap_or_default();
        let is_true = |kind: &str| {
            let conditions = target["conditions"].as_array();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == kind && one["status"] == "True"))
        };
        is_true("Ready") && is_true("Collecting")
    })
    .await;
    let overview = get("/ers/v1/overview").await;
    let total = overview["nodes"][0]["memoryTotalBytes"].as_f64().unwrap_or_default();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let expected: f64 = meminfo.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0;
    assert!((total - expected).abs() < 1.0, "{total} and {expected}");

    let started = |log: &str| -> Vec<i32> {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["message"] == "agent started")
            .filter_map(|line| line["pid"].as_i64()?.try_into().ok())
            .collect()
    };
    let log = || std::fs::read_to_string(root.path().join("log")).unwrap();
    let first = started(&log())[0];
    rustix::process::kill_process(rustix::process::Pid::from_raw(first).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    eventually("restarted", async || started(&log()).len() == 2).await;
    let second = started(&log())[1];
    assert!(is_alive(second) && !is_alive(first));
    // Killed without a chance to say anything: the agent sees its pipe close.
    process.child.kill().await.unwrap();
    eventually("gone with the server", async || !is_alive(second)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_it_in_order_and_its_commands_work_beside_it() {
    let root = tempfile::tempdir().unwrap();
    let mut process = start(root.path(), free_port()).await;
    let data = process.data.to_str().unwrap().to_owned();
    let first = std::fs::read_to_string(process.data.join("admin-password")).unwrap();
    let reset = command(&["admin", "reset-password", "--data-dir", &data]).await;
    assert!(reset.0 && reset.1 != first, "{reset:?}");
    let user = command(&["admin", "create-user", "--data-dir", &data, "--user", "watcher"]).await;
    assert!(user.0, "{user:?}");
    let http = http(&process);
    let log_in = async |name: &str, password: &str| {
        let body = serde_json::json!({"username": name, "password": password});
        http.post(format!("{}/ers/v1/session", process.url)).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(log_in("admin", &first).await, 401);
    assert_eq!(log_in("admin", &reset.1).await, 200);
    assert_eq!(log_in("watcher", &user.1).await, 200);
    let twice = command(&["admin", "create-user", "--data-dir", &data, "--user", "watcher"]).await;
    assert!(!twice.0 && twice.2.contains("exists already"), "{twice:?}");

    let pid = rustix::process::Pid::from_raw(process.child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(Duration::from_secs(30), process.child.wait()).await.expect("in time").unwrap();
    assert_eq!(status.code(), Some(0));
    let log = std::fs::read_to_string(root.path().join("log")).unwrap();
    assert!(log.contains("server stopped"), "{log}");
    for secret in [&first, &reset.1, &user.1] {
        assert!(!log.contains(secret.as_str()), "a password is in the log");
    }
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_retention_restarts_the_server_by_itself_and_a_broken_policy_does_not_stop_it() {
    let root = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut process = start(root.path(), port).await;
    let read = token(&process, "read").await;
    let http = http(&process);
    let retention = async || -> Option<i64> {
        let answer = http.get(format!("{}/ers/v1/overview", process.url)).bearer_auth(&read).send().await.ok()?;
        answer.json::<Value>().await.ok()?["storage"]["retentionDays"].as_i64()
    };
    assert_eq!(retention().await, Some(15));
    let manifest = root.path().join("manifests/policy.yaml");
    let spec = "{storage: {metrics: {type: Embedded, embedded: {retentionDays: 3}}}}";
    std::fs::write(&manifest, crate::harness::POLICY_YAML.replace("{}", spec)).unwrap();
    eventually("restarted", async || retention().await == Some(3)).await;
    process.child.kill().await.unwrap();
    std::fs::write(&manifest, crate::harness::POLICY_YAML.replace("{}", "{nonsense: 1}")).unwrap();
    process = start(root.path(), port).await;
    let answer = http.get(format!("{}/ers/v1/overview", process.url)).bearer_auth(&read).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["storage"]["retentionDays"], 3, "as it was when it was good last");
    process.child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_cannot_work_says_why_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    let mut arguments: Vec<String> =
        ["standalone", "--namespace", "demo", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec();
    for (flag, path) in [
        ("--manifests", &settings.manifests),
        ("--secrets-dir", &settings.secrets_dir),
        ("--data-dir", &settings.data_dir),
    ] {
        arguments.extend([flag.to_owned(), path.display().to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    std::fs::remove_file(settings.manifests.join("policy.yaml")).unwrap();
    let none = command(&arguments).await;
    assert!(!none.0 && none.2.contains("there is no ReportPolicy"), "{none:?}");
    std::fs::write(
        settings.manifests.join("policy.yaml"),
        "apiVersion: reporting.ers.dev/v1alpha1\nkind: ReportPolicy\nmetadata: {name: x}\nspec: {nonsense: 1}\n",
    )
    .unwrap();
    let bad = command(&arguments).await;
    assert!(!bad.0 && bad.2.contains("spec.nonsense"), "{bad:?}");
    std::fs::create_dir_all(&settings.data_dir).unwrap();
    std::fs::write(
        settings.data_dir.join("tenant.json"),
        r#"{"version": 1, "tenant": "00000000-0000-8000-8000-000000000000", "cluster": "local", "namespace": "other", "policy": "theirs"}"#,
    )
    .unwrap();
    std::fs::write(settings.manifests.join("policy.yaml"), crate::harness::POLICY_YAML).unwrap();
    let foreign = command(&arguments).await;
    assert!(!foreign.0 && foreign.2.contains("other/theirs") && foreign.2.contains("demo/reporting"), "{foreign:?}");
    assert_eq!(std::fs::read_dir(&settings.data_dir).unwrap().count(), 2, "the mark and the lock, nothing else");
}
