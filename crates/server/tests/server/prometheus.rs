//! The same samples in Debian's Prometheus and here: the same answers, over HTTP, to the last digit that rounding leaves.

use std::process::Stdio;
use std::time::Duration;

use ers_model::{Clock as _, Labels, Sample, SystemClock};
use ers_store::Scope;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::harness::{TestServer, body};

/// Evaluated between samples, since Prometheus 2 still counts a sample on a window's left edge and 3 does not.
const QUERIES: [&str; 44] = [
    "up",
    "1 + 2 * 3 ^ 2 % 5",
    "http_requests_total",
    r#"http_requests_total{code=~"2..",job!="b"}"#,
    "rate(http_requests_total[2m])",
    "increase(http_requests_total[5m])",
    "irate(http_requests_total[2m])",
    "delta(temperature[3m])",
    "idelta(temperature[3m])",
    "deriv(temperature[5m])",
    "predict_linear(temperature[5m], 600)",
    "sum(rate(http_requests_total[2m]))",
    "sum by (job) (rate(http_requests_total[2m]))",
    "sum without (code, instance) (http_requests_total)",
    "avg by (code) (http_requests_total)",
    "min(temperature)",
    "max by (instance) (temperature)",
    "count(http_requests_total)",
    "stddev by (job) (http_requests_total)",
    "stdvar(temperature)",
    "quantile(0.9, temperature)",
    "topk(2, http_requests_total)",
    "bottomk by (job) (1, temperature)",
    r#"count_values("value", up)"#,
    "group by (job) (up)",
    "avg_over_time(temperature[4m])",
    "min_over_time(temperature[4m])",
    "max_over_time(temperature[4m])",
    "sum_over_time(temperature[4m])",
    "stddev_over_time(temperature[4m])",
    "quantile_over_time(0.5, temperature[4m])",
    "changes(temperature[4m])",
    "resets(http_requests_total[10m])",
    "histogram_quantile(0.9, sum by (le, job) (rate(latency_bucket[5m])))",
    "http_requests_total / on (instance, job) group_left temperature",
    "temperature > 20",
    "temperature > bool 20",
    r#"up == 0 or absent(nothing{job="x"})"#,
    "http_requests_total unless on (job) temperature{job=\"a\"}",
    r#"label_replace(up, "short", "$1", "instance", "(.).*")"#,
    r#"label_join(up, "both", "-", "job", "instance")"#,
    "max_over_time(rate(http_requests_total[1m])[5m:30s])",
    "temperature offset 2m",
    "clamp(round(temperature, 0.5), 15, 25) + hour() * 0 + abs(-temperature)",
];

struct Prometheus {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

async fn prometheus(http: &reqwest::Client) -> Prometheus {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let child = Command::new("/usr/bin/prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--web.enable-remote-write-receiver")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("Debian's package prometheus is installed");
    let url = format!("http://127.0.0.1:{port}");
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        tick.tick().await;
        if http.get(format!("{url}/-/ready")).send().await.is_ok_and(|answer| answer.status() == 200) {
            return Prometheus { child, url, _folder: folder };
        }
        assert!(tokio::time::Instant::now() < deadline, "Prometheus is never ready");
    }
}

/// 20 minutes, every 15 s: counters with a reset, gauges, a histogram, a target that goes down.
fn data(end_ms: i64) -> Vec<(Labels, Vec<Sample>)> {
    let steps = 80_i64;
    let times: Vec<i64> = (0..=steps).map(|step| end_ms - (steps - step) * 15_000).collect();
    let mut series = Vec::new();
    let mut add = |pairs: Vec<(&str, String)>, value: &dyn Fn(i64) -> f64| {
        let samples = times
            .iter()
            .enumerate()
            .map(|(step, at)| Sample { timestamp_ms: *at, value: value(step as i64) })
            .collect();
        series.push((Labels::from_pairs(pairs), samples));
    };
    for (number, (job, instance)) in [("a", "x:1"), ("a", "y:1"), ("b", "x:2"), ("b", "z:2")].into_iter().enumerate() {
        let number = number as f64 + 1.0;
        let base = |name: &'static str| {
            vec![
                ("__name__", name.to_owned()),
                ("cluster", "local".to_owned()),
                ("region", "here".to_owned()),
                ("job", job.to_owned()),
                ("instance", instance.to_owned()),
            ]
        };
        add(base("up"), &|step| if number == 3.0 && step > 60 { 0.0 } else { 1.0 });
        add(base("temperature"), &|step| 20.0 + (step as f64 / 7.0 * number).sin() * 5.0 + number / 3.0);
        for code in ["200", "404"] {
            let mut labels = base("http_requests_total");
            labels.push(("code", code.to_owned()));
            // Restarted in the middle.
            add(labels, &|step| ((step % 55) as f64 * number * 1.7).floor() + if code == "404" { 0.25 } else { 0.0 });
        }
        for (le, share) in [("0.1", 0.3), ("0.5", 0.7), ("1", 0.9), ("+Inf", 1.0)] {
            let mut labels = base("latency_bucket");
            labels.push(("le", le.to_owned()));
            add(labels, &|step| (step as f64 * number * 10.0 * share).floor());
        }
    }
    series
}

fn key(series: &Value) -> String {
    series["metric"].to_string()
}

fn same_number(ours: &str, theirs: &str) -> bool {
    let (Ok(one), Ok(other)) = (ours.parse::<f64>(), theirs.parse::<f64>()) else { return ours == theirs };
    ours == theirs || (one - other).abs() <= 1e-9 * one.abs().max(other.abs()).max(1e-12)
}

fn same_points(ours: &Value, theirs: &Value) -> bool {
    match (ours.as_array(), theirs.as_array()) {
        (Some(one), Some(other)) if one.first().is_some_and(Value::is_array) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same_points(one, other))
        }
        (Some(one), Some(other)) if one.len() == 2 && other.len() == 2 => {
            let (one_text, other_text) = (one[1].as_str().unwrap_or_default(), other[1].as_str().unwrap_or_default());
            one[0].as_f64() == other[0].as_f64() && same_number(one_text, other_text)
        }
        _ => ours == theirs,
    }
}

fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    if ours["resultType"] != theirs["resultType"] {
        return Some(format!("type {} and {}", ours["resultType"], theirs["resultType"]));
    }
    let (Some(one), Some(other)) = (ours["result"].as_array(), theirs["result"].as_array()) else {
        return Some("no list".to_owned());
    };
    if ours["resultType"] == "scalar" {
        return (!same_points(&ours["result"], &theirs["result"])).then(|| format!("{ours} and {theirs}"));
    }
    let (mut one, mut other) = (one.clone(), other.clone());
    one.sort_by_key(key);
    other.sort_by_key(key);
    let names = |list: &[Value]| list.iter().map(key).collect::<Vec<_>>();
    if names(&one) != names(&other) {
        return Some(format!("series {:?} and {:?}", names(&one), names(&other)));
    }
    one.iter().zip(&other).find_map(|(ours, theirs)| {
        let field = if ours.get("values").is_some() { "values" } else { "value" };
        (!same_points(&ours[field], &theirs[field]))
            .then(|| format!("{}: {} and {}", key(ours), ours[field], theirs[field]))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_prometheus() {
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut peer = prometheus(&plain).await;
    let server = TestServer::start().await;
    let (write, read) = (server.token(&[Scope::Write]).await, server.token(&[Scope::Read]).await);
    // Off the round seconds on which subqueries are evaluated.
    let end_ms = SystemClock.now_ms() / 15_000 * 15_000 - 11_000;
    let sent = data(end_ms);
    let answer = server.write(&write, &sent).await;
    assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
    let request = plain.post(format!("{}/api/v1/write", peer.url)).header("Content-Encoding", "snappy");
    assert_eq!(
        request.header("Content-Type", "application/x-protobuf").body(body(&sent)).send().await.unwrap().status(),
        204
    );

    let mut different = Vec::new();
    let at = (end_ms - 60_000) as f64 / 1_000.0 + 7.0;
    for query in QUERIES {
        let instant = [("query", query.to_owned()), ("time", at.to_string())];
        let range = [
            ("query", query.to_owned()),
            ("start", (at - 600.0).to_string()),
            ("end", at.to_string()),
            ("step", "30".to_owned()),
        ];
        for (path, parameters) in [("query", &instant[..]), ("query_range", &range[..])] {
            let ours =
                server.get(&format!("/api/v1/{path}")).bearer_auth(&read).query(parameters).send().await.unwrap();
            let theirs = plain.get(format!("{}/api/v1/{path}", peer.url)).query(parameters).send().await.unwrap();
            let statuses = (ours.status(), theirs.status());
            let (ours, theirs): (Value, Value) = (ours.json().await.unwrap(), theirs.json().await.unwrap());
            if statuses.0 != statuses.1 {
                different.push(format!("{path} {query}: {statuses:?} {ours} {theirs}"));
            } else if let Some(what) = difference(&ours["data"], &theirs["data"]) {
                different.push(format!("{path} {query}: {what}"));
            }
        }
    }
    peer.child.kill().await.unwrap();
    server.stop().await;
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), QUERIES.len() * 2, different.join("\n"));
}
