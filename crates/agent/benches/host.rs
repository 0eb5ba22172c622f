//! CPU and memory of the agent beside Debian's node_exporter, on this machine, in one run: interleaved rounds, CPU time
//! from the scheduler's own account of every thread.
//!
//! - `serve`: both answer plain HTTP scrapes, all collectors that both have.
//! - `run`: the agent as installed, once a second, with spool, TLS and remote write to a server on loopback.
//!
//! `cargo bench -p ers-agent --bench host`; exits with 1 when a bar is missed (0.25 of the CPU, 0.75 of the memory).

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, reason = "the bench uses a part of the tests' support")]
mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitCode, Stdio};
use support::agent::{Agent, HOST};
use support::server::{Reply, Server};

const ROUNDS: usize = 3;
const SCRAPES: u32 = 100;
const CPU_BAR: f64 = 0.25;
const MEMORY_BAR: f64 = 0.75;
const RIVAL: &str = "/usr/bin/prometheus-node-exporter";
/// Collectors of node_exporter 1.5.0's defaults that the agent does not have.
const NOT_OURS: [&str; 10] =
    ["bcache", "btrfs", "fibrechannel", "infiniband", "ipvs", "nfs", "nfsd", "tapestats", "xfs", "zfs"];

struct Exporter {
    child: Child,
    address: String,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU milliseconds of all threads so far.
fn cpu_ms(pid: u32) -> f64 {
    let mut nanoseconds = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    nanoseconds as f64 / 1e6
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn scrape(connection: &mut TcpStream, text: &mut String) {
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asked");
    let mut reader = BufReader::new(connection);
    let (mut length, mut chunked) = (0_usize, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        chunked |= line.starts_with("transfer-encoding: chunked");
    }
    text.clear();
    let mut body = Vec::new();
    if !chunked {
        body.resize(length, 0);
        reader.read_exact(&mut body).expect("a body");
    } else {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a length");
            let size = usize::from_str_radix(line.trim(), 16).expect("a length");
            let start = body.len();
            body.resize(start + size + 2, 0);
            reader.read_exact(&mut body[start..]).expect("a piece");
            body.truncate(start + size);
            if size == 0 {
                break;
            }
        }
    }
    text.push_str(&String::from_utf8(body).expect("text"));
}

fn start_agent() -> Exporter {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ers-agent"))
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the agent starts");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut address).expect("an address");
    Exporter { child, address: address.trim().to_owned() }
}

fn start_rival() -> Exporter {
    // A port that was free a moment ago.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(RIVAL);
    command.arg(format!("--web.listen-address={address}")).arg("--web.disable-exporter-metrics");
    for collector in NOT_OURS {
        command.arg(format!("--no-collector.{collector}"));
    }
    let child = command.stderr(Stdio::null()).spawn().expect("Debian's prometheus-node-exporter is installed");
    let exporter = Exporter { child, address };
    while TcpStream::connect(&exporter.address).is_err() {
        std::thread::yield_now();
    }
    exporter
}

/// CPU milliseconds per scrape of one round.
fn round(exporter: &Exporter, text: &mut String) -> f64 {
    let mut connection = TcpStream::connect(&exporter.address).expect("connected");
    scrape(&mut connection, text);
    let before = cpu_ms(exporter.child.id());
    for _ in 0..SCRAPES {
        scrape(&mut connection, text);
    }
    (cpu_ms(exporter.child.id()) - before) / f64::from(SCRAPES)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn series(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| line.starts_with("node_"));
    lines.filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series)).collect()
}

fn main() -> ExitCode {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load before: {}", load.trim());
    let (ours, theirs) = (start_agent(), start_rival());
    let (mut our_text, mut their_text) = (String::new(), String::new());
    let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our_rounds.push(round(&ours, &mut our_text));
        their_rounds.push(round(&theirs, &mut their_text));
    }
    println!("rounds, CPU ms per scrape: agent {our_rounds:.3?}, node_exporter {their_rounds:.3?}");
    let (our_cpu, their_cpu) = (median(&mut our_rounds), median(&mut their_rounds));
    let (our_memory, their_memory) = (resident_mib(ours.child.id()), resident_mib(theirs.child.id()));
    let (our_series, their_series) = (series(&our_text), series(&their_text));
    println!("{:<28}{:>12}{:>14}{:>10}", "", "agent", "node_exporter", "ratio");
    println!("{:<28}{:>12}{:>14}", "series", our_series.len(), their_series.len());
    println!("{:<28}{our_cpu:>12.3}{their_cpu:>14.3}{:>10.3}", "CPU ms per scrape", our_cpu / their_cpu);
    println!("{:<28}{our_memory:>12.1}{their_memory:>14.1}{:>10.3}", "RSS MiB, serve", our_memory / their_memory);
    let only_theirs: Vec<&&str> =
        their_series.difference(&our_series).filter(|one| !one.contains("duration")).collect();
    println!("series only node_exporter has: {} {:?}", only_theirs.len(), &only_theirs[..only_theirs.len().min(40)]);

    let server = Server::start(|_| Reply::status(204));
    let mut agent = Agent::prepare(&server, HOST, 64 << 20);
    agent.start(&[]);
    let batches = |count: usize| server.wait("batches", |received| received.len() >= count).len();
    batches(10);
    let pid = agent.pid();
    let (before, from) = (cpu_ms(pid), batches(10));
    let until = batches(from + 30);
    // A batch a second, the agent's own figures with it.
    let per_collection = (cpu_ms(pid) - before) / (until - from) as f64;
    let memory = resident_mib(pid);
    println!(
        "{:<28}{per_collection:>12.3}{their_cpu:>14.3}{:>10.3}",
        "CPU ms per collection, run",
        per_collection / their_cpu
    );
    println!("{:<28}{memory:>12.1}{their_memory:>14.1}{:>10.3}", "RSS MiB, run", memory / their_memory);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load after: {}", load.trim());

    let met = our_cpu <= CPU_BAR * their_cpu && memory <= MEMORY_BAR * their_memory;
    println!("bars (CPU <= {CPU_BAR}, RSS <= {MEMORY_BAR}): {}", if met { "met" } else { "MISSED" });
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
