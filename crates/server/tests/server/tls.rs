use crate::harness::{TestServer, client, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_is_kept_over_a_restart_and_verified_by_its_authority() {
    let server = TestServer::start().await;
    let authorities = server.running.certificate.get().authorities.clone();
    assert_eq!(server.get("/livez").send().await.unwrap().text().await.unwrap(), "ok");
    let folder = server.stop().await;
    let server = TestServer::start_in(folder, config()).await;
    assert_eq!(server.running.certificate.get().authorities, authorities);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_authority_is_not_believed() {
    let (one, other) = (TestServer::start().await, TestServer::start().await);
    let stranger = client(&other.running.certificate.get().authorities);
    assert!(stranger.get(format!("{}/livez", one.url)).send().await.is_err());
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_gets_no_answer() {
    let server = TestServer::start().await;
    for port in [server.running.https.port(), server.running.metrics.port()] {
        let answer = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(format!("http://127.0.0.1:{port}/livez"))
            .send()
            .await;
        assert!(answer.is_err());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_certificate_is_used_and_followed_when_it_is_replaced() {
    use ers_model::SystemClock;
    use ers_server::tls::{CertificateSource, load_folder};

    let folder = tempfile::tempdir().unwrap();
    let mounted = folder.path().join("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let issue = |number: u32| {
        let names = vec!["127.0.0.1".to_owned()];
        let source = CertificateSource::Own { file: folder.path().join(format!("issuer{number}.json")), names };
        source.current(&SystemClock).unwrap_or_else(|error| panic!("{error}"));
        let text = std::fs::read_to_string(folder.path().join(format!("issuer{number}.json"))).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        let part = |pointer: &str| state.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        std::fs::write(mounted.join("tls.crt"), part("/leaf/certificate")).unwrap();
        std::fs::write(mounted.join("tls.key"), part("/leaf/key")).unwrap();
        std::fs::write(mounted.join("ca.crt"), part("/authorities/0/certificate")).unwrap();
    };
    issue(1);
    let mut config = config();
    config.tls.certificate_dir = Some(mounted.display().to_string());
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), config).await;
    assert_eq!(server.get("/livez").send().await.unwrap().status(), 200);
    issue(2);
    let material = load_folder(&mounted).unwrap_or_else(|error| panic!("{error}"));
    assert!(server.running.certificate.set(material));
    let renewed = client(&server.running.certificate.get().authorities);
    assert_eq!(renewed.get(format!("{}/livez", server.url)).send().await.unwrap().status(), 200);
    server.stop().await;
}
