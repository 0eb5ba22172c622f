//! Targets over HTTP: a kubelet, and pods found through an API server, with everything that can go wrong with them.

#[path = "support/server.rs"]
mod server;

use ers_agent::http::{Endpoint, Reach};
use ers_agent::metrics::AgentMetrics;
use ers_agent::queue::{Queue, tenant};
use ers_agent::ready::{ProcessIdentity, ReadyLatch};
use ers_agent::sender::{Destination, Shared, newest_lane};
use ers_agent::source::kubelet::{KubeletSource, run as run_kubelet};
use ers_agent::source::pods::{KubeApi, PodsSource, run as run_pods};
use ers_agent::source::scrape::Buffers;
use ers_agent::tls::TlsSettings;
use ers_model::agent_config::{KubeletTls, PodEndpoint, PodScheme, ScrapeLimits};
use ers_model::{SystemClock, is_stale};
use server::{Received, Reply, Server};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LIMITS: ScrapeLimits = ScrapeLimits { max_series: 4, max_labels: 8, max_body_bytes: 4096 };
const INTERVAL: Duration = Duration::from_millis(200);

/// Every value of a series, in the order it came.
fn values(received: &[Received], series: &str) -> Vec<f64> {
    received
        .iter()
        .filter(|one| one.status == 204)
        .flat_map(Received::series)
        .filter(|(name, _, _)| name == series)
        .map(|(_, value, _)| value)
        .collect()
}

fn last(received: &[Received], series: &str) -> Option<f64> {
    values(received, series).last().copied()
}

/// Runs sources on a thread of their own, shipping to a server, until the test's process ends.
fn collect<F>(sink: &Server, start: F)
where
    F: FnOnce(Shared) + Send + 'static,
{
    let (url, authority) = (sink.url(), sink.authority.clone());
    std::thread::spawn(move || {
        let folder = tempfile::tempdir().expect("folder");
        let (ca, token) = (folder.path().join("ca"), folder.path().join("token"));
        std::fs::write(&ca, authority).expect("authority");
        std::fs::write(&token, "t").expect("token");
        let queue =
            Queue::open(folder.path(), tenant("n", "t"), 8 << 20, Arc::new(SystemClock), AgentMetrics::default());
        let identity = ProcessIdentity::current().expect("identity");
        let shared = Shared::new(queue.expect("queue"), ReadyLatch::new(None, identity, "h"));
        let destination = Destination {
            endpoint: Endpoint::parse(&url).expect("address"),
            tls: TlsSettings::authority(&ca),
            token_file: token,
            target: "t".parse().expect("header"),
            config_hash: "h".parse().expect("header"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            start(shared.clone());
            newest_lane(shared, destination).await;
        });
    });
}

fn service_account(folder: &Path, authority: &str) {
    std::fs::write(folder.join("ca.crt"), authority).expect("authority");
    std::fs::write(folder.join("token"), "sa-token\n").expect("token");
}

/// A kubelet whose paths answer as the test says, and where its samples arrive.
fn with_kubelet(script: impl FnMut(&Received) -> Reply + Send + 'static, tls: KubeletTls) -> (Server, Server) {
    let kubelet = Server::start(script);
    let authority = kubelet.authority.clone();
    with_authority(kubelet, &authority, tls)
}

/// The same, with an authority that need not be the kubelet's.
fn with_authority(kubelet: Server, authority: &str, tls: KubeletTls) -> (Server, Server) {
    let sink = Server::start(|_| Reply::status(204));
    let folder = tempfile::tempdir().expect("folder").keep();
    service_account(&folder, authority);
    let port = kubelet.address.port();
    collect(&sink, move |shared| {
        let source = KubeletSource {
            address: "127.0.0.1".to_owned(),
            port,
            tls,
            service_account: folder,
            node: "n1".to_owned(),
            target: "nodes".to_owned(),
            interval: INTERVAL,
            timeout: Duration::from_secs(5),
            limits: LIMITS,
        };
        tokio::task::spawn_local(run_kubelet(source, shared, Buffers::default()));
    });
    (kubelet, sink)
}

const CADVISOR: &str = r#"instance="n1", job="kubelet", metrics_path="/metrics/cadvisor", node="n1""#;

fn about(name: &str) -> String {
    format!(r#"{name}{{ers_target="nodes", {CADVISOR}}}"#)
}

#[test]
fn a_kubelet_is_scraped_with_its_token_and_keeps_its_own_labels() {
    let script = |received: &Received| {
        assert_eq!(received.header("authorization"), "Bearer sa-token");
        Reply::status(200)
            .with_body("# TYPE c_total counter\nc_total{container=\"c\",pod=\"p\",job=\"own\"} 7 1700000000123\n")
    };
    let (_kubelet, sink) = with_kubelet(script, KubeletTls::ClusterCA);
    let name =
        r#"c_total{container="c", instance="n1", job="own", metrics_path="/metrics/cadvisor", node="n1", pod="p"}"#;
    let received = sink.wait("a sample of cAdvisor", |received| last(received, name) == Some(7.0));
    let own_time = received.iter().flat_map(Received::series).find(|(series, _, _)| series == name);
    assert_eq!(own_time.map(|(_, _, at)| at), Some(1_700_000_000_123));
    for (series, value) in [
        ("up", 1.0),
        ("scrape_samples_scraped", 1.0),
        ("scrape_samples_post_metric_relabeling", 1.0),
        ("scrape_series_added", 1.0),
    ] {
        assert_eq!(values(&received, &about(series))[0], value, "{series}");
    }
    assert!(values(&received, &about("scrape_duration_seconds"))[0] > 0.0);
}

#[test]
fn a_kubelet_with_a_strange_certificate_is_down_unless_that_was_said() {
    let start = || Server::start(|_| Reply::status(200).with_body("a 1\n"));
    let stranger = start();
    let (_kubelet, sink) = with_authority(start(), &stranger.authority, KubeletTls::Insecure);
    sink.wait("a sample", |received| last(received, &about("up")) == Some(1.0));

    let (kubelet, sink) = with_authority(start(), &stranger.authority, KubeletTls::ClusterCA);
    let failure = format!(r#"ers_target_failure{{ers_target="nodes", {CADVISOR}, reason="tls_failed"}}"#);
    sink.wait("the failure", |received| last(received, &failure) == Some(1.0));
    assert!(kubelet.received().is_empty());
}

/// One answer, and how the target is then reported.
#[track_caller]
fn check_failure(reply: Reply, reason: &str) {
    let (_kubelet, sink) = with_kubelet(move |_| reply.clone(), KubeletTls::ClusterCA);
    let failure = format!(r#"ers_target_failure{{ers_target="nodes", {CADVISOR}, reason="{reason}"}}"#);
    let received = sink.wait(reason, |received| last(received, &failure) == Some(1.0));
    assert_eq!(last(&received, &about("up")), Some(0.0));
    let ordinary = received.iter().flat_map(Received::series).filter(|(name, _, _)| name.starts_with("big")).count();
    assert_eq!(ordinary, 0, "nothing of a failed scrape is kept");
}

#[test]
fn each_way_to_fail_has_its_word() {
    let many: String = (0..5).map(|at| format!("big{{a=\"{at}\"}} 1\n")).collect();
    check_failure(Reply::status(200).with_body(many), "too_many_series");
    let wide: String = (0..9).map(|at| format!("l{at}=\"x\",")).collect();
    check_failure(Reply::status(200).with_body(format!("big{{{wide}}} 1\n")), "too_many_labels");
    check_failure(Reply::status(200).with_body("#\n".repeat(4096)), "body_too_long");
    check_failure(Reply::status(200).with_body("big 1\nbig{ 2\n"), "malformed_body");
    check_failure(Reply::status(403).with_body("no"), "http_403");
    check_failure(Reply::status(500), "http_5xx");
    check_failure(Reply::reset(), "connection_broken");
    check_failure(Reply::status(302).with_header("location", "https://example.org/"), "redirected");
}

#[test]
fn a_small_body_that_unpacks_to_a_large_one_is_refused() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b'#'; 1 << 20]).expect("packed");
    let bomb = encoder.finish().expect("packed");
    assert!(bomb.len() < 4096);
    check_failure(Reply::status(200).with_header("content-encoding", "gzip").with_body(bomb), "body_too_long");
}

#[test]
fn series_end_when_they_vanish_and_when_the_target_fails() {
    let round = Arc::new(Mutex::new(0));
    let current = round.clone();
    let script = move |_: &Received| match *current.lock().expect("lock") {
        0 => Reply::status(200).with_body("a 1\nb 1\n"),
        1 => Reply::status(200).with_body("a 1\n"),
        2 => Reply::status(503),
        _ => Reply::status(200).with_body("a 2\n"),
    };
    let (_kubelet, sink) = with_kubelet(script, KubeletTls::ClusterCA);
    let series = |name: &str| format!("{name}{{{CADVISOR}}}");
    let ended = |received: &[Received], name: &str| last(received, &series(name)).is_some_and(is_stale);
    sink.wait("both", |received| last(received, &series("b")) == Some(1.0));
    *round.lock().expect("lock") = 1;
    let received = sink.wait("the end of b", |received| ended(received, "b"));
    assert_eq!(last(&received, &series("a")), Some(1.0));
    *round.lock().expect("lock") = 2;
    sink.wait("the end of a", |received| ended(received, "a"));
    let failure = format!(r#"ers_target_failure{{ers_target="nodes", {CADVISOR}, reason="http_5xx"}}"#);
    *round.lock().expect("lock") = 3;
    let received = sink.wait("a again", |received| last(received, &series("a")) == Some(2.0));
    assert!(last(&received, &failure).is_some_and(is_stale));
}

/// An API server that knows some pods: lists them, and sends what the test adds to its watches.
struct FakeCluster {
    pods: Mutex<BTreeMap<String, String>>,
    events: Mutex<Vec<String>>,
}

fn pod(name: &str, port: u16, version: u32) -> String {
    format!(
        r#"{{"metadata": {{"name": "{name}", "uid": "uid-{name}", "resourceVersion": "{version}"}},
            "spec": {{"nodeName": "n1", "containers": [{{"name": "main", "ports": [{{"name": "http", "containerPort": {port}}}]}}]}},
            "status": {{"phase": "Running", "podIP": "127.0.0.1"}}}}"#
    )
    .replace('\n', "")
}

fn start_api(cluster: Arc<FakeCluster>) -> Server {
    Server::start(move |received| {
        assert_eq!(received.header("authorization"), "Bearer sa-token");
        assert!(received.path.starts_with("/api/v1/namespaces/ns/pods?labelSelector=app%3Dx&"), "{}", received.path);
        if received.path.contains("watch=1") {
            // One answer per watch: what happened since, then its end, and the agent watches again.
            let events: Vec<String> = std::mem::take(&mut *cluster.events.lock().expect("lock"));
            return Reply::status(200).with_body(events.concat());
        }
        let pods: Vec<String> = cluster.pods.lock().expect("lock").values().cloned().collect();
        let list = format!(r#"{{"metadata": {{"resourceVersion": "10"}}, "items": [{}]}}"#, pods.join(","));
        Reply::status(200).with_body(list)
    })
}

fn watch_pods(cluster: Arc<FakeCluster>, reach: Reach) -> (Server, Server) {
    let api = start_api(cluster);
    let sink = Server::start(|_| Reply::status(204));
    let folder = tempfile::tempdir().expect("folder").keep();
    service_account(&folder, &api.authority);
    let port = api.address.port();
    collect(&sink, move |shared| {
        let source = PodsSource {
            api: KubeApi {
                endpoint: Endpoint { tls: true, host: "localhost".to_owned(), port },
                service_account: folder,
            },
            namespace: "ns".to_owned(),
            target: "apps".to_owned(),
            selector: "app=x".to_owned(),
            endpoints: vec![PodEndpoint { port: "http".into(), path: "/m".into(), scheme: PodScheme::Http }],
            interval: INTERVAL,
            timeout: Duration::from_secs(5),
            limits: LIMITS,
            reach,
        };
        tokio::task::spawn_local(run_pods(source, shared, Buffers::default()));
    });
    (api, sink)
}

#[test]
fn pods_are_found_scraped_and_ended_when_they_go() {
    let first = Server::start_plain(|received| {
        assert_eq!((received.path.as_str(), received.header("authorization")), ("/m", ""));
        Reply::status(200).with_body("a{pod=\"liar\"} 1\n")
    });
    let second = Server::start_plain(|_| Reply::status(200).with_body("a 2\n"));
    let (one, two) = (first.address.port(), second.address.port());
    let cluster = Arc::new(FakeCluster {
        pods: Mutex::new(BTreeMap::from([("one".to_owned(), pod("one", one, 1))])),
        events: Mutex::default(),
    });
    let (_api, sink) = watch_pods(cluster.clone(), Reach::Trusted);
    let labels = |name: &str, port: u16| {
        format!(
            r#"container="main", instance="127.0.0.1:{port}", job="ns/apps", namespace="ns", node="n1", pod="{name}""#
        )
    };
    let up = |name: &str, port: u16| {
        format!(
            r#"up{{container="main", ers_target="apps", instance="127.0.0.1:{port}", job="ns/apps", namespace="ns", node="n1", pod="{name}"}}"#
        )
    };
    let renamed = format!(
        r#"a{{container="main", exported_pod="liar", {}}}"#,
        labels("one", one).replace("container=\"main\", ", "")
    );
    sink.wait("the listed pod", |received| last(received, &renamed) == Some(1.0));

    cluster.events.lock().expect("lock").push(format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", pod("two", two, 11)));
    sink.wait("the added pod", |received| last(received, &up("two", two)) == Some(1.0));

    cluster.events.lock().expect("lock").push(format!("{{\"type\":\"DELETED\",\"object\":{}}}\n", pod("one", one, 12)));
    let received = sink.wait("the end of the first", |received| {
        last(received, &up("one", one)).is_some_and(is_stale) && last(received, &renamed).is_some_and(is_stale)
    });
    assert!(!last(&received, &up("two", two)).is_some_and(is_stale));

    // The version is too old: the list is read again, and says that nothing is left.
    cluster.pods.lock().expect("lock").clear();
    let expired = "{\"type\":\"ERROR\",\"object\":{\"code\":410}}\n".to_owned();
    cluster.events.lock().expect("lock").push(expired);
    sink.wait("the end of the second", |received| last(received, &up("two", two)).is_some_and(is_stale));
}

#[test]
fn a_pod_cannot_send_the_agent_to_the_machine_itself() {
    let secret = Server::start_plain(|_| Reply::status(200).with_body("secret 1\n"));
    let port = secret.address.port();
    let cluster = Arc::new(FakeCluster {
        pods: Mutex::new(BTreeMap::from([("evil".to_owned(), pod("evil", port, 1))])),
        events: Mutex::default(),
    });
    let (_api, sink) = watch_pods(cluster, Reach::Pods);
    let failure = format!(
        r#"ers_target_failure{{container="main", ers_target="apps", instance="127.0.0.1:{port}", job="ns/apps", namespace="ns", node="n1", pod="evil", reason="address_forbidden"}}"#
    );
    sink.wait("the refusal", |received| last(received, &failure) == Some(1.0));
    assert!(secret.received().is_empty());
}
