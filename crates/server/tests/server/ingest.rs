use ers_model::{Clock as _, Labels, Sample, SystemClock};
use ers_store::Scope;
use serde_json::{Value, json};

use crate::harness::{TestServer, body};

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> (Labels, Vec<Sample>) {
    let samples =
        samples.iter().map(|(timestamp_ms, value)| Sample { timestamp_ms: *timestamp_ms, value: *value }).collect();
    (Labels::from_pairs(labels.iter().copied()), samples)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_is_queried_with_the_labels_of_this_place() {
    let server = TestServer::start().await;
    let (write, read) = (server.token(&[Scope::Write]).await, server.token(&[Scope::Read]).await);
    let now = SystemClock.now_ms();
    let sent =
        [series(&[("__name__", "up"), ("job", "x"), ("cluster", "forged"), ("region", "forged")], &[(now, 1.5)])];
    let answer = server.write(&write, &sent).await;
    assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
    let data = server.data(&read, "/api/v1/query?query=up").await;
    assert_eq!(data["resultType"], "vector");
    let expected = json!({"__name__": "up", "job": "x", "cluster": "local", "region": "here"});
    assert_eq!(data["result"][0]["metric"], expected);
    assert_eq!(data["result"][0]["value"][1], "1.5");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_node_is_the_one_of_its_key_whatever_the_body_says() {
    let server = TestServer::start().await;
    let (agent, read) = (server.agent_key("nodes", "n1").await, server.token(&[Scope::Read]).await);
    server.ready().await;
    let now = SystemClock.now_ms();
    let sent = [series(&[("__name__", "node_load1"), ("node", "forged"), ("instance", "forged")], &[(now, 0.25)])];
    let answer = server.write(&agent, &sent).await;
    assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
    let data = server.data(&read, "/api/v1/query?query=node_load1").await;
    assert_eq!(data["result"][0]["metric"]["node"], "n1");
    assert_eq!(data["result"][0]["metric"]["instance"], "n1");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_a_target_that_is_not_known_keeps_its_samples() {
    let server = TestServer::start().await;
    server.ready().await;
    let agent = server.agent_key("later", "n1").await;
    let answer = server.write(&agent, &[series(&[("__name__", "x")], &[(SystemClock.now_ms(), 1.0)])]).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(answer.text().await.unwrap().contains("later"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_cannot_speak_for_another_target() {
    let server = TestServer::start().await;
    server.ready().await;
    let agent = server.agent_key("nodes", "n1").await;
    let request = server.post("/api/v1/write").bearer_auth(&agent).header("X-ERS-Target", "others").body(body(&[]));
    assert_eq!(request.send().await.unwrap().status(), 403);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_stored_is_named_and_the_rest_is_stored() {
    let server = TestServer::start().await;
    let (write, read) = (server.token(&[Scope::Write]).await, server.token(&[Scope::Read]).await);
    let now = SystemClock.now_ms();
    let names: Vec<String> = (0..200).map(|number| format!("label{number:03}")).collect();
    let mut many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    many.push(("__name__", "too_many_labels_metric"));
    let answer =
        server.write(&write, &[series(&many, &[(now, 1.0)]), series(&[("__name__", "good")], &[(now, 1.0)])]).await;
    assert_eq!(answer.status(), 400);
    let error: Value = answer.json().await.unwrap();
    assert_eq!((error["status"].as_str(), error["errorType"].as_str()), (Some("error"), Some("bad_data")));
    let text = error["error"].as_str().unwrap();
    assert!(text.contains("too_many_labels_metric") && text.contains("max_labels_per_series"), "{text}");
    assert_eq!(server.data(&read, "/api/v1/query?query=good").await["result"].as_array().map(Vec::len), Some(1));

    let conflict = server.write(&write, &[series(&[("__name__", "good")], &[(now, 2.0)])]).await;
    assert_eq!(conflict.status(), 400);
    let again = server.write(&write, &[series(&[("__name__", "good")], &[(now, 1.0)])]).await;
    assert_eq!(again.status(), 204, "a retry of the same is no error");
    let future = server.write(&write, &[series(&[("__name__", "good")], &[(now + 86_400_000, 1.0)])]).await;
    assert_eq!(future.status(), 400);
    assert!(future.text().await.unwrap().contains("future"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_remote_write_are_refused_before_they_are_unpacked() {
    let server = TestServer::start().await;
    let write = server.token(&[Scope::Write]).await;
    let send = |headers: &[(&str, &str)], body: Vec<u8>| {
        let mut request = server.post("/api/v1/write").bearer_auth(&write).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let snappy = ("Content-Encoding", "snappy");
    assert_eq!(send(&[("Content-Encoding", "gzip")], vec![0]).await.unwrap().status(), 415);
    assert_eq!(send(&[snappy, ("Content-Type", "application/json")], vec![0]).await.unwrap().status(), 415);
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    assert_eq!(send(&[snappy, ("Content-Type", v2)], vec![0]).await.unwrap().status(), 415);
    // A few bytes that claim to become 4 GiB.
    let bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x00];
    let answer = send(&[snappy], bomb).await.unwrap();
    assert_eq!(answer.status(), 413);
    assert!(answer.text().await.unwrap().contains("decompressed"));
    assert_eq!(send(&[snappy], vec![]).await.unwrap().status(), 400);
    assert_eq!(send(&[snappy], body(&[])).await.unwrap().status(), 204, "an empty request is a request");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_survive_a_restart() {
    let server = TestServer::start().await;
    let write = server.token(&[Scope::Write]).await;
    let read = server.token(&[Scope::Read]).await;
    let now = SystemClock.now_ms();
    let samples: Vec<(i64, f64)> = (0..100).map(|step| (now - 100_000 + step * 1_000, step as f64)).collect();
    assert_eq!(server.write(&write, &[series(&[("__name__", "kept")], &samples)]).await.status(), 204);
    let query = format!("/api/v1/query?query=count_over_time(kept[5m])&time={}", now / 1_000 + 1);
    assert_eq!(server.data(&read, &query).await["result"][0]["value"][1], "100");
    let folder = server.stop().await;
    let server = TestServer::start_in(folder, crate::harness::config()).await;
    assert_eq!(server.data(&read, &query).await["result"][0]["value"][1], "100");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_says_so_and_works_again_when_there_is_room() {
    let mut config = crate::harness::config();
    config.storage.max_bytes = 512 << 10;
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), config).await;
    let (write, read) = (server.token(&[Scope::Write]).await, server.token(&[Scope::Read]).await);
    let base = SystemClock.now_ms() - 3_000_000;
    let mut step = 0_i64;
    let mut refused = None;
    server
        .until("full", async || {
            // Values that do not compress.
            let batch: Vec<(Labels, Vec<Sample>)> = (0..200_i64)
                .map(|number| {
                    let value = f64::from_bits(
                        (step * 200 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()).cast_unsigned()
                            >> 2,
                    );
                    series(&[("__name__", "filler"), ("number", &number.to_string())], &[(base + step * 100, value)])
                })
                .collect();
            step += 1;
            let answer = server.write(&write, &batch).await;
            let status = answer.status().as_u16();
            assert!(status == 204 || status == 503, "{status}");
            if status == 503 {
                refused = Some(answer);
            }
            status == 503
        })
        .await;
    let refused = refused.unwrap();
    assert_eq!(refused.headers()["retry-after"], "10");
    let text = refused.text().await.unwrap();
    assert!(text.contains("spec.storage.metrics.embedded.size"), "{text}");
    server
        .until("told", async || {
            let list: Value =
                server.get("/ers/v1/objects").bearer_auth(&read).send().await.unwrap().json().await.unwrap();
            let conditions = list["items"][0]["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .iter()
                .any(|one| one["type"] == "StorageReady" && one["status"] == "False" && one["reason"] == "StorageFull")
        })
        .await;
    assert_eq!(server.get("/readyz").send().await.unwrap().status(), 200, "queries and the page go on");
    assert!(
        !server.data(&read, "/api/v1/query?query=count(last_over_time(filler[1h]))").await["result"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let folder = server.stop().await;
    let server = TestServer::start_in(folder, crate::harness::config()).await;
    let answer = server.write(&write, &[series(&[("__name__", "after")], &[(SystemClock.now_ms(), 1.0)])]).await;
    assert_eq!(answer.status(), 204);
    server.stop().await;
}
