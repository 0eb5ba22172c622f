//! Our server beside Debian's Prometheus: the same remote write bodies and the same queries, one after the other, in one run.
//!
//! Printed: versions, CPU seconds of the server process (from `/proc/<pid>/stat`), ratios, resident memory, bytes per sample on disk.
//! Run by `make bench`; needs release builds of `ers-server` (`ERS_BENCH_BIN`) and the package `prometheus`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use ers_e2e::{eventually, processes};
use ers_model::{Labels, Sample};
use ers_wire::remote_write::{TimeSeries, encode};
use reqwest::Client;
use serde_json::{Value, json};

const INSTANCES: usize = 60;
const STEP_MS: i64 = 15_000;
const STEPS: i64 = 1440;
const SERIES_PER_BODY: usize = 2_000;

/// One peer under measurement: its process, its address, how it wants to be addressed.
struct Peer {
    name: &'static str,
    process: Child,
    base: String,
    token: Option<String>,
    folder: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ending a process that has ended already is not an error here.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Peer {
    /// User and system CPU seconds since the process started.
    fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }

    fn resident(&self) -> Result<f64> {
        Ok(processes::resident_bytes(self.process.id())? as f64 / 1048576.0)
    }

    fn request(&self, http: &Client, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

/// 36 series per instance, as a host with some services shows them: counters, gauges with two decimals, constants.
fn body(at_ms: i64, step: i64, first: usize, count: usize) -> Vec<u8> {
    let rows: Vec<(Labels, [Sample; 1])> = (first..first + count)
        .map(|number| {
            let (instance, kind) = (number / 36, number % 36);
            let noise = ((number as u64 * 2654435761 + step as u64 * 40503) % 1000) as f64;
            let (name, value) = match kind {
                0..=15 => (
                    "bench_requests_total",
                    (step as f64 * (kind as f64 + 3.0)).floor() * 7.0 + (noise / 100.0).floor(),
                ),
                16..=27 => ("bench_usage_ratio", noise / 1000.0),
                28..=31 => ("bench_capacity_bytes", 1048576.0 * (kind as f64)),
                _ => ("bench_memory_bytes", 4e9 + noise * 4096.0),
            };
            let labels = Labels::from_pairs([
                ("__name__", name.to_owned()),
                ("instance", format!("host-{instance:03}")),
                ("region", format!("region-{}", instance % 4)),
                ("team", format!("team-{}", instance % 10)),
                ("part", format!("part-{kind:02}")),
                ("job", "bench".to_owned()),
            ]);
            (labels, [Sample { timestamp_ms: at_ms, value }])
        })
        .collect();
    let series: Vec<TimeSeries> = rows.iter().map(|(labels, samples)| TimeSeries { labels, samples }).collect();
    encode(&series, &[])
}

fn version_of(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
}

async fn start_prometheus(http: &Client) -> Result<Peer> {
    let folder = std::env::temp_dir().join(format!("ers-bench-prometheus-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("prometheus.yml"), "global: {scrape_interval: 1h}\n")?;
    let process = Command::new("prometheus")
        .args(["--web.listen-address=127.0.0.1:19190", "--web.enable-remote-write-receiver", "--log.level=error"])
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .stderr(Stdio::null())
        .spawn()
        .context("prometheus is missing: apt-get install prometheus")?;
    let peer = Peer { name: "Prometheus", process, base: "http://127.0.0.1:19190".to_owned(), token: None, folder };
    eventually("Prometheus is ready", Duration::from_secs(30), || async {
        ensure!(peer.request(http, reqwest::Method::GET, "/-/ready").send().await?.status().is_success(), "not ready");
        Ok(Some(()))
    })
    .await?;
    Ok(peer)
}

async fn start_ours(http: &Client, binary: &Path) -> Result<Peer> {
    let folder = std::env::temp_dir().join(format!("ers-bench-server-{}", std::process::id()));
    for part in ["manifests", "secrets", "data"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(
        folder.join("manifests/policy.yaml"),
        "apiVersion: reporting.ers.dev/v1alpha1\nkind: ReportPolicy\nmetadata: {name: bench}\nspec: {storage: {metrics: {type: Embedded, embedded: {retentionDays: 15}}}}\n",
    )?;
    let process = Command::new(binary)
        .arg("standalone")
        .args(["--listen", "127.0.0.1:19443", "--metrics-listen", "127.0.0.1:19444"])
        .arg("--manifests")
        .arg(folder.join("manifests"))
        .arg("--secrets-dir")
        .arg(folder.join("secrets"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .stdout(Stdio::null())
        .stderr(fs::File::create(std::env::temp_dir().join("ers-bench-server.log"))?)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    let mut peer = Peer { name: "ERS", process, base: "https://127.0.0.1:19443".to_owned(), token: None, folder };
    let password_file = peer.folder.join("data/admin-password");
    let api = eventually("our server answers", Duration::from_secs(30), || async {
        let password = fs::read_to_string(&password_file)?;
        Ok(Some(ers_e2e::ServerApi::log_in_at(http.clone(), peer.base.clone(), "admin", password.trim()).await?))
    })
    .await?;
    let (status, token) = api
        .call(
            reqwest::Method::POST,
            "/ers/v1/tokens",
            Some(json!({"name": "bench", "scopes": ["read", "write"], "expiresInDays": 1})),
        )
        .await?;
    ensure!(status.is_success(), "token: {status} {token}");
    peer.token = Some(token["secret"].as_str().context("secret")?.to_owned());
    Ok(peer)
}

async fn ingest(http: &Client, peer: &Peer, start_ms: i64) -> Result<(f64, f64)> {
    let path = "/api/v1/write";
    let total = INSTANCES * 36;
    let before = peer.cpu()?;
    let began = std::time::Instant::now();
    for step in 0..STEPS {
        let mut first = 0;
        let mut requests = Vec::new();
        while first < total {
            let count = SERIES_PER_BODY.min(total - first);
            let request = peer
                .request(http, reqwest::Method::POST, path)
                .header("Content-Encoding", "snappy")
                .header("Content-Type", "application/x-protobuf")
                .header("X-Prometheus-Remote-Write-Version", "0.1.0")
                .body(body(start_ms + step * STEP_MS, step, first, count));
            requests.push(request.send());
            first += count;
        }
        for answer in futures::future::try_join_all(requests).await? {
            ensure!(
                answer.status().is_success(),
                "{}: write answered {}: {}",
                peer.name,
                answer.status(),
                answer.text().await?
            );
        }
    }
    Ok((peer.cpu()? - before, began.elapsed().as_secs_f64()))
}

/// `(name, query, step in seconds; 0 = instant)`
const QUERIES: [(&str, &str, i64); 7] = [
    ("sum by (rate)", "sum by (region) (rate(bench_requests_total[5m]))", 60),
    ("max of max_over_time", "max by (instance) (max_over_time(bench_usage_ratio[10m]))", 60),
    ("sum of gauges", "sum by (team) (bench_memory_bytes)", 60),
    ("avg_over_time 1 h", "max by (team) (avg_over_time(bench_usage_ratio[1h]))", 60),
    ("rate, wide answer", "rate(bench_requests_total{part=~\"part-0[0-3]\"}[5m])", 60),
    ("instant rate", "sum(rate(bench_requests_total{region=\"region-1\"}[5m])) by (instance)", 0),
    ("instant threshold", "bench_usage_ratio{team=\"team-3\"} > 0.9", 0),
];

async fn ask(http: &Client, peer: &Peer, query: &str, step: i64, end_ms: i64) -> Result<Value> {
    let end = end_ms as f64 / 1000.0;
    let parameters: Vec<(&str, String)> = if step == 0 {
        vec![("query", query.to_owned()), ("time", end.to_string())]
    } else {
        vec![
            ("query", query.to_owned()),
            ("start", (end - 18_000.0).to_string()),
            ("end", end.to_string()),
            ("step", step.to_string()),
        ]
    };
    let path = if step == 0 { "/api/v1/query" } else { "/api/v1/query_range" };
    let answer = peer.request(http, reqwest::Method::GET, path).query(&parameters).send().await?;
    let body: Value = answer.json().await?;
    ensure!(body["status"] == "success", "{}: {query}: {body}", peer.name);
    Ok(body["data"]["result"].clone())
}

fn bytes_in(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => sum += bytes_in(&path, wanted),
            Ok(meta) if wanted(&path) => sum += meta.len(),
            _ => {}
        }
    }
    sum
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let binaries =
        PathBuf::from(std::env::var_os("ERS_BENCH_BIN").context("ERS_BENCH_BIN is not set: run make bench")?);
    let server = binaries.join("ers-server");
    // Our server signs its own certificate, made seconds ago on this very machine.
    let http = Client::builder().tls_danger_accept_invalid_certs(true).build()?;
    println!("ours:       {}", version_of(&server));
    println!("Prometheus: {}", version_of(Path::new("prometheus")));
    println!("load:       {}", fs::read_to_string("/proc/loadavg")?.trim());
    let peers = [start_ours(&http, &server).await?, start_prometheus(&http).await?];
    let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let start_ms = (now_ms - STEPS * STEP_MS) / STEP_MS * STEP_MS;
    let end_ms = start_ms + (STEPS - 1) * STEP_MS;
    let samples = (INSTANCES * 36) as f64 * STEPS as f64;
    println!(
        "\ningest: {} series, {:.1} M samples, bodies of at most {SERIES_PER_BODY} samples",
        INSTANCES * 36,
        samples / 1e6
    );
    let mut ingest_cpu = Vec::new();
    for peer in &peers {
        let (cpu, wall) = ingest(&http, peer, start_ms).await?;
        println!(
            "  {:<11} {cpu:>7.2} CPU s  {:>6.2} M samples per CPU s  {wall:>6.1} s wall  RSS {:>6.1} MiB",
            peer.name,
            samples / cpu / 1e6,
            peer.resident()?
        );
        ingest_cpu.push(cpu);
    }
    println!("  ratio       {:.3} (aim <= 0.25)", ingest_cpu[0] / ingest_cpu[1]);
    println!("\nqueries over 5 h, CPU ms per query (median of 3 rounds of 5)");
    for (name, query, step) in QUERIES {
        let mut per_peer = Vec::new();
        let mut answers = Vec::new();
        for peer in &peers {
            answers.push(ask(&http, peer, query, step, end_ms).await?);
            let mut rounds = Vec::new();
            for _ in 0..3 {
                let repeats = if step == 0 { 50 } else { 5 };
                let before = peer.cpu()?;
                for _ in 0..repeats {
                    ask(&http, peer, query, step, end_ms).await?;
                }
                rounds.push((peer.cpu()? - before) * 1000.0 / f64::from(repeats));
            }
            per_peer.push(median(rounds));
        }
        let same = answers[0].as_array().map(Vec::len) == answers[1].as_array().map(Vec::len);
        println!(
            "  {name:<22} ours {:>7.2}  Prometheus {:>7.2}  ratio {:.3} (aim <= 0.5)  {}",
            per_peer[0],
            per_peer[1],
            per_peer[0] / per_peer[1],
            if same { "equal numbers of series" } else { "DIFFERENT numbers of series" }
        );
    }
    let ours =
        bytes_in(&peers[0].folder.join("data"), &|path| path.extension().is_some_and(|extension| extension == "seg"));
    let theirs = bytes_in(&peers[1].folder.join("data"), &|path| {
        path.parent().is_some_and(|parent| parent.ends_with("chunks")) || path.ends_with("index")
    });
    println!(
        "\ndisk: ours {:.2} MiB in segments, Prometheus {:.2} MiB in blocks (both keep the newest 2 to 3 hours in the WAL)",
        ours as f64 / 1048576.0,
        theirs as f64 / 1048576.0
    );
    Ok(())
}
