//! The listener on loopback: health, limits, and a certificate that is rotated while it runs.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ers_webhook::certificate::{self, Due};
use ers_webhook::identity::Identity;
use ers_webhook::{admission, server};

fn names() -> Vec<String> {
    vec!["localhost".to_owned()]
}

fn client(authorities: &str) -> reqwest::Client {
    let trusted = reqwest::Certificate::from_pem_bundle(authorities.as_bytes()).expect("pem");
    // No connection is kept, so that each request shakes hands anew.
    reqwest::Client::builder().tls_certs_only(trusted).no_proxy().pool_max_idle_per_host(0).build().expect("client")
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("fits")
}

#[tokio::test]
async fn the_listener_serves_health_limits_and_rotates_its_certificate() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let base = format!("https://localhost:{port}");
    let identity = Identity::placeholder().expect("placeholder");
    let ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ready);
    let readiness: server::Readiness = Arc::new(move || {
        if asked.load(Ordering::Relaxed) { Vec::new() } else { vec!["certificate: not stored yet".to_owned()] }
    });
    let running = server::start(listener, &identity, readiness, admission::Metrics::default()).expect("started");
    let handle = running.handle();
    let serving = tokio::spawn(running);

    let first = certificate::issue(Due::Authority, None, &names(), now()).expect("issued");
    let before = client(&first.authorities).get(format!("{base}/livez")).send().await;
    assert!(before.is_err(), "the placeholder is trusted by nobody");
    assert!(!identity.is_loaded());

    assert!(identity.replace(&first).expect("usable"));
    assert!(!identity.replace(&first).expect("usable"), "the same certificate is no news");
    let http = client(&first.authorities);
    assert_eq!(http.get(format!("{base}/livez")).send().await.expect("answer").status(), 200);
    let unready = http.get(format!("{base}/readyz")).send().await.expect("answer");
    assert_eq!(unready.status(), 503);
    assert_eq!(unready.text().await.expect("text"), "certificate: not stored yet\n");
    ready.store(true, Ordering::Relaxed);
    assert_eq!(http.get(format!("{base}/readyz")).send().await.expect("answer").status(), 200);

    let malformed = http.post(format!("{base}/validate")).body("{}").send().await.expect("answer");
    assert_eq!(malformed.status(), 400);
    let oversized = http.post(format!("{base}/validate")).body(vec![b' '; server::MAX_BODY + 1]).send().await;
    // The refusal may overtake the rest of the body, which then cannot be sent.
    assert!(oversized.map_or(true, |answer| answer.status() == 413));
    assert!(http.get(format!("{base}/validate")).send().await.expect("answer").status().is_client_error());

    // A new authority: clients that trust both go on, whichever certificate they meet; the listener never stopped.
    let second = certificate::issue(Due::Authority, Some(first.clone()), &names(), now()).expect("issued");
    let both = client(&second.authorities);
    assert_eq!(both.get(format!("{base}/livez")).send().await.expect("answer").status(), 200);
    assert!(identity.replace(&second).expect("usable"));
    assert_eq!(both.get(format!("{base}/livez")).send().await.expect("answer").status(), 200);
    // A client that has never been here, since one that has may resume its session without looking at a certificate.
    let outdated = client(&first.authorities).get(format!("{base}/livez")).send().await;
    assert!(outdated.is_err(), "the old authority alone is not enough any more");

    let mut broken = second.clone();
    broken.leaf_key = "no key".to_owned();
    assert!(identity.replace(&broken).is_err());
    assert_eq!(both.get(format!("{base}/livez")).send().await.expect("answer").status(), 200, "the one before stays");
    handle.stop(true).await;
    serving.await.expect("joined").expect("served");
}
