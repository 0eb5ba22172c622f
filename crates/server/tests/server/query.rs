//! Prometheus' API, its answers and its errors.

use ers_model::{Labels, Sample};
use ers_store::Scope;
use serde_json::{Value, json};

use crate::harness::TestServer;

/// A minute of samples every 15 s, the last at `end`.
async fn filled(end_ms: i64) -> (TestServer, String) {
    let server = TestServer::start().await;
    let write = server.token(&[Scope::Write]).await;
    let mut series = Vec::new();
    for job in ["a", "b"] {
        let labels = Labels::from_pairs([("__name__", "requests_total"), ("job", job)]);
        let samples =
            (0..5).map(|step| Sample { timestamp_ms: end_ms - 60_000 + step * 15_000, value: step as f64 * 3.0 });
        series.push((labels, samples.collect()));
    }
    let answer = server.write(&write, &series).await;
    assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
    let read = server.token(&[Scope::Read]).await;
    (server, read)
}

fn now_seconds() -> i64 {
    use ers_model::Clock as _;
    ers_model::SystemClock.now_ms() / 1_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_prometheus_shapes() {
    let now = now_seconds();
    let (server, read) = filled(now * 1_000).await;
    let scalar = server.data(&read, &format!("/api/v1/query?query=1%2B0.5&time={now}.25")).await;
    assert_eq!(scalar, json!({"resultType": "scalar", "result": [now as f64 + 0.25, "1.5"]}));
    let string = server.data(&read, &format!("/api/v1/query?query=%22x%22&time={now}")).await;
    assert_eq!(string, json!({"resultType": "string", "result": [now, "x"]}));
    let vector = server.data(&read, &format!("/api/v1/query?query=sum(requests_total)&time={now}")).await;
    assert_eq!(vector, json!({"resultType": "vector", "result": [{"metric": {}, "value": [now, "24"]}]}));
    let range = format!("/api/v1/query_range?query=sum(requests_total)&start={}&end={now}&step=30", now - 30);
    let matrix = server.data(&read, &range).await;
    assert_eq!(
        matrix,
        json!({"resultType": "matrix", "result": [{"metric": {}, "values": [[now - 30, "12"], [now, "24"]]}]})
    );
    let none = server.data(&read, "/api/v1/query?query=nothing").await;
    assert_eq!(none, json!({"resultType": "vector", "result": []}));
    // The same by form.
    let form = [("query", "sum(requests_total)".to_owned()), ("time", now.to_string())];
    let answer: Value =
        server.post("/api/v1/query").bearer_auth(&read).form(&form).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"], vector);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_values_and_series_are_listed() {
    let now = now_seconds();
    let (server, read) = filled(now * 1_000).await;
    assert_eq!(server.data(&read, "/api/v1/labels").await, json!(["__name__", "cluster", "job", "region"]));
    assert_eq!(server.data(&read, "/api/v1/label/job/values").await, json!(["a", "b"]));
    assert_eq!(server.data(&read, "/api/v1/label/job/values?match[]=requests_total{job!=%22a%22}").await, json!(["b"]));
    let series = server.data(&read, "/api/v1/series?match[]=requests_total{job=%22a%22}").await;
    assert_eq!(series, json!([{"__name__": "requests_total", "cluster": "local", "job": "a", "region": "here"}]));
    let limited: Value =
        server.get("/api/v1/label/job/values?limit=1").bearer_auth(&read).send().await.unwrap().json().await.unwrap();
    assert_eq!(limited["data"], json!(["a"]));
    assert_eq!(limited["warnings"], json!(["results truncated due to limit"]));
    let info = server.data(&read, "/api/v1/status/buildinfo").await;
    assert!(info["version"].as_str().unwrap().starts_with("3."));
    assert_eq!(server.data(&read, "/api/v1/metadata").await, json!({}));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_have_prometheus_words() {
    let (server, read) = filled(now_seconds() * 1_000).await;
    let points =
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
    let table = [
        ("query?query=", 400, "bad_data", "parse error"),
        ("query?query=sum(", 400, "bad_data", "invalid parameter \"query\": 1:5: parse error"),
        (
            "query?query=up&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": cannot parse \"x\" to a valid timestamp",
        ),
        ("query?query=up&timeout=x", 400, "bad_data", "cannot parse \"x\" to a valid duration"),
        ("query?query=up&limit=-1", 400, "bad_data", "limit"),
        ("query_range?query=up&start=2&end=1&step=1", 400, "bad_data", "end timestamp must not be before start time"),
        ("query_range?query=up&start=1&end=2&step=0", 400, "bad_data", "zero or negative query resolution step widths"),
        (
            "query_range?query=up&start=1&end=2&step=x",
            400,
            "bad_data",
            "invalid parameter \"step\": cannot parse \"x\" to a valid duration",
        ),
        ("query_range?query=up&start=0&end=11002&step=1", 400, "bad_data", points),
        (
            "query_range?query=up[5m]&start=1&end=2&step=1",
            422,
            "execution",
            "invalid expression type \"range vector\" for range query",
        ),
        ("query?query=requests_total*on()requests_total", 422, "execution", "many-to-many matching not allowed"),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        ("series?match[]={}", 400, "bad_data", "must contain at least one non-empty matcher"),
        ("labels?match[]=(", 400, "bad_data", "invalid parameter \"match[]\""),
        ("labels?start=2&end=1", 400, "bad_data", "end timestamp must not be before start"),
    ];
    for (path, status, kind, words) in table {
        let answer = server.get(&format!("/api/v1/{path}")).bearer_auth(&read).send().await.unwrap();
        let found = answer.status();
        let error: Value = answer.json().await.unwrap();
        let text = error["error"].as_str().unwrap_or_default();
        assert!(found == status && error["errorType"] == kind && text.contains(words), "{path}: {found} {error}");
        assert_eq!(error["status"], "error");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_takes_too_long_is_given_up() {
    let (server, read) = filled(now_seconds() * 1_000).await;
    let slow = "/api/v1/query?timeout=1ms&query=count_over_time(vector(1)[100d:1s])";
    let answer = server.get(slow).bearer_auth(&read).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let error: Value = answer.json().await.unwrap();
    assert_eq!(error["errorType"], "timeout");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_come_in_pieces_packed_or_not_and_are_the_same() {
    let now = now_seconds();
    let (server, read) = filled(now * 1_000).await;
    let path = format!("/api/v1/query_range?query=vector(time()%25 7/3)&start={}&end={now}&step=1", now - 10_000);
    let path = path.replace(' ', "");
    let plain = server.get(&path).bearer_auth(&read).send().await.unwrap();
    assert_eq!(plain.headers().get("content-encoding"), None);
    let plain: Value = plain.json().await.unwrap();
    assert_eq!(plain["data"]["result"][0]["values"].as_array().unwrap().len(), 10_001);
    let packed = server.get(&path).bearer_auth(&read).header("Accept-Encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let bytes = packed.bytes().await.unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), plain);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_ends_when_its_caller_goes_away() {
    let (server, read) = filled(now_seconds() * 1_000).await;
    // Eight steps of a second each; a query looks between them whether anybody still waits.
    let terms: Vec<String> = (1..9).map(|part| format!("quantile_over_time(0.{part},vector(time())[1d:1s])")).collect();
    let (start, end) = (now_seconds() - 10_000, now_seconds());
    let slow = format!("/api/v1/query_range?query={}&start={start}&end={end}&step=1", terms.join("%2B"));
    // By HTTP/1.1: with HTTP/2 actix-web does not tell us that a stream was reset, and the query's time limit ends it.
    let authorities =
        reqwest::Certificate::from_pem_bundle(server.running.certificate.get().authorities.as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only(authorities).no_proxy().http1_only().build().unwrap();
    let asked = client.get(format!("{}{slow}", server.url)).bearer_auth(&read);
    let asked = asked.timeout(std::time::Duration::from_millis(300)).send().await;
    assert!(asked.is_err_and(|error| error.is_timeout()), "it is too quick for this test");
    server
        .until("cancelled", async || {
            let url = format!("{}/metrics", server.metrics_url);
            let text = server.client.get(url).bearer_auth(&read).send().await.unwrap().text().await.unwrap();
            text.contains("ers_server_queries_total{outcome=\"cancelled\"} 1")
                && text.contains("ers_server_queries_running 0")
        })
        .await;
    server.stop().await;
}
