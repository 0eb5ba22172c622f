use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use ers_model::{Clock as _, Labels, Sample, SystemClock};
use ers_store::Scope;

use crate::harness::{Credential as _, Session, TestServer};

type Socket = tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

/// What a socket is opened with.
struct Opening<'a> {
    cookie: Option<&'a str>,
    origin: Option<String>,
}

async fn open(server: &TestServer, opening: Opening<'_>) -> Result<Socket, u16> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    let authorities = server.running.certificate.get().authorities.clone();
    for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(server.running.https).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await.unwrap();
    let mut request =
        format!("wss://127.0.0.1:{}/ers/v1/live", server.running.https.port()).into_client_request().unwrap();
    if let Some(cookie) = opening.cookie {
        request.headers_mut().insert("Cookie", cookie.parse().unwrap());
    }
    if let Some(origin) = opening.origin {
        request.headers_mut().insert("Origin", origin.parse().unwrap());
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn page(server: &TestServer, session: &Session) -> Socket {
    let opening = Opening { cookie: Some(&session.cookie), origin: Some(server.url.clone()) };
    open(server, opening).await.expect("the page may watch")
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(std::time::Duration::from_secs(20), socket.next())
        .await
        .expect("in time")
        .expect("a message")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_gets_a_picture_at_once_and_new_ones_as_they_come() {
    let server = TestServer::start().await;
    server.ready().await;
    let agent = server.agent_key("nodes", "n1").await;
    let session = server.viewer().await;
    let mut socket = page(&server, &session).await;
    let first: Value = serde_json::from_str(next(&mut socket).await.to_text().unwrap()).unwrap();
    assert_eq!(first["type"], "snapshot");
    assert_eq!(first["intervalMs"], 5_000);
    assert_eq!(first["server"]["mode"], "Standalone");
    assert_eq!(first["nodes"], serde_json::json!([]));
    let names: Vec<&str> =
        first["objects"].as_array().unwrap().iter().map(|object| object["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["reporting", "nodes"]);

    let now = SystemClock.now_ms();
    let about = |name: &str| Labels::from_pairs([("__name__", name), ("ers_target", "nodes"), ("job", "host")]);
    let sent = [
        (
            Labels::from_pairs([("__name__", "node_uname_info"), ("release", "6.1")]),
            vec![Sample { timestamp_ms: now, value: 1.0 }],
        ),
        (Labels::from_pairs([("__name__", "node_load1")]), vec![Sample { timestamp_ms: now, value: 0.5 }]),
        (about("up"), vec![Sample { timestamp_ms: now, value: 0.0 }]),
        (
            Labels::from_pairs([
                ("__name__", "ers_target_failure"),
                ("ers_target", "nodes"),
                ("job", "host"),
                ("reason", "timeout"),
            ]),
            vec![Sample { timestamp_ms: now, value: 1.0 }],
        ),
    ];
    assert_eq!(server.write(&agent, &sent).await.status(), 204);
    let second: Value = serde_json::from_str(next(&mut socket).await.to_text().unwrap()).unwrap();
    let node = &second["nodes"][0];
    assert_eq!(
        (node["node"].as_str(), node["kernel"].as_str(), node["load1"].as_f64()),
        (Some("n1"), Some("6.1"), Some(0.5))
    );
    assert_eq!(node["cpuPercent"], Value::Null, "unknown is null, never zero");
    let target = &second["targets"][0];
    assert_eq!((target["target"].as_str(), target["up"].as_bool()), (Some("nodes"), Some(false)));
    assert_eq!((target["instance"].as_str(), target["reason"].as_str()), (Some("n1"), Some("timeout")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_our_own_page_with_a_session_may_watch() {
    let server = TestServer::start().await;
    let session = server.viewer().await;
    let cookie = Some(session.cookie.as_str());
    let refused = async |opening| open(&server, opening).await.err();
    assert_eq!(refused(Opening { cookie: None, origin: Some(server.url.clone()) }).await, Some(401));
    assert_eq!(refused(Opening { cookie, origin: None }).await, Some(403));
    assert_eq!(refused(Opening { cookie, origin: Some("https://evil.example".to_owned()) }).await, Some(403));
    let plain = session.on(server.get("/ers/v1/live")).header("Origin", &server.url).send().await.unwrap();
    assert_eq!(plain.status(), 400, "no upgrade was asked for");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_ends_with_its_session_and_with_the_server() {
    let server = TestServer::start().await;
    let (gone, stays) = (server.viewer().await, server.admin().await);
    let (mut first, mut second) = (page(&server, &gone).await, page(&server, &stays).await);
    assert!(next(&mut first).await.is_text() && next(&mut second).await.is_text());
    assert_eq!(gone.on(server.delete("/ers/v1/session")).send().await.unwrap().status(), 204);
    let code = loop {
        if let Message::Close(frame) = next(&mut first).await {
            break frame.unwrap().code;
        }
    };
    assert_eq!(code, CloseCode::from(4401));
    second.send(Message::Ping(vec![1].into())).await.unwrap();
    let stopping = tokio::spawn(server.stop());
    let code = loop {
        if let Message::Close(frame) = next(&mut second).await {
            break frame.unwrap().code;
        }
    };
    assert_eq!(code, CloseCode::Away);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_is_the_same_picture() {
    let server = TestServer::start().await;
    let read = server.token(&[Scope::Read]).await;
    let overview: Value = read.on(server.get("/ers/v1/overview")).send().await.unwrap().json().await.unwrap();
    for name in ["generatedAtMs", "intervalMs", "server", "nodes", "targets", "objects", "storage"] {
        assert!(!overview[name].is_null(), "{name}");
    }
    assert_eq!(overview["storage"]["retentionDays"], 15);
    server.stop().await;
}
