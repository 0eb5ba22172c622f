use serde_json::{Value, json};

use crate::harness::{Credential as _, TestServer, path_exists};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_logs_in_looks_and_logs_out() {
    let server = TestServer::start().await;
    let session = server.admin().await;
    assert_eq!(session.body["user"]["username"], "admin");
    assert_eq!(session.body["user"]["role"], "admin");
    assert!(session.body["expiresAt"].as_str().unwrap().ends_with('Z'));

    let shown: Value = session.on(server.get("/ers/v1/session")).send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["csrfToken"], session.csrf.as_str());

    let out = session.on(server.delete("/ers/v1/session")).send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    let after = session.on(server.get("/ers/v1/session")).send().await.unwrap();
    assert_eq!(after.status(), 401);
    let error: Value = after.json().await.unwrap();
    assert_eq!(error["error"]["code"], "Unauthenticated");
    assert!(error["requestId"].as_str().is_some_and(|id| id.len() == 36));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_cookie_is_as_narrow_as_cookies_get() {
    let server = TestServer::start().await;
    let response = server.try_log_in("admin", &server.admin_password()).await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    for part in ["__Host-ers-session=", "HttpOnly", "Secure", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{part} in {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_by_a_session_needs_its_csrf_token() {
    let server = TestServer::start().await;
    let (one, other) = (server.admin().await, server.admin().await);
    let body = json!({"name": "x", "scopes": ["read"], "expiresInDays": null});
    let without = server.post("/ers/v1/tokens").header("Cookie", &one.cookie).json(&body).send().await.unwrap();
    assert_eq!(without.status(), 403);
    let error: Value = without.json().await.unwrap();
    assert_eq!(error["error"]["code"], "CsrfTokenInvalid");
    let foreign = server
        .post("/ers/v1/tokens")
        .header("Cookie", &one.cookie)
        .header("X-CSRF-Token", &other.csrf)
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(one.on(server.post("/ers/v1/tokens")).json(&body).send().await.unwrap().status(), 201);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_page_cannot_log_a_browser_in() {
    let server = TestServer::start().await;
    let body = json!({"username": "admin", "password": server.admin_password()});
    let from = |origin: String| server.post("/ers/v1/session").header("Origin", origin).json(&body).send();
    assert_eq!(from("https://evil.example".to_owned()).await.unwrap().status(), 403);
    assert_eq!(from("null".to_owned()).await.unwrap().status(), 403);
    assert_eq!(from(server.url.clone()).await.unwrap().status(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_is_slowed_down_with_retry_after() {
    let server = TestServer::start().await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(server.try_log_in("admin", "not the password").await);
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 429]);
    let last = answers.pop().unwrap();
    assert_eq!(last.headers()["retry-after"], "1");
    let error: Value = last.json().await.unwrap();
    assert_eq!(error["error"]["code"], "RateLimited");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_ends_other_sessions_and_the_file_of_the_first_one() {
    let server = TestServer::start().await;
    let first = server.admin_password();
    let (one, other) = (server.admin().await, server.admin().await);
    let change = |current: &str, new: &str| {
        one.on(server.post("/ers/v1/password")).json(&json!({"current": current, "new": new})).send()
    };
    let wrong = change("not it", "a much better password").await.unwrap();
    assert_eq!(wrong.status(), 400);
    let error: Value = wrong.json().await.unwrap();
    assert_eq!(error["error"]["field"], "current");
    let short = change(&first, "short").await.unwrap();
    assert_eq!(short.status(), 400);
    let error: Value = short.json().await.unwrap();
    assert_eq!(error["error"]["field"], "new");
    assert!(error["error"]["message"].as_str().unwrap().contains("at least 12"));
    assert_eq!(change(&first, "a much better password").await.unwrap().status(), 204);
    assert_eq!(one.on(server.get("/ers/v1/session")).send().await.unwrap().status(), 200);
    assert_eq!(other.on(server.get("/ers/v1/session")).send().await.unwrap().status(), 401);
    assert!(!path_exists(&server.folder.path().join("data/admin-password")));
    // And it is still so after a restart.
    let folder = server.stop().await;
    let server = TestServer::start_in(folder, crate::harness::config()).await;
    server.log_in("admin", "a much better password").await;
    assert!(!path_exists(&server.folder.path().join("data/admin-password")));
    assert_eq!(one.on(server.get("/ers/v1/session")).send().await.unwrap().status(), 200, "sessions outlive a restart");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_wrong_is_never_repeated() {
    let server = TestServer::start().await;
    for body in [r#"{"username": "admin", "password": 5, "x": "hunter2"}"#, r#"{"username": "hunter2""#, "hunter2"] {
        let request = server.post("/ers/v1/session").header("Content-Type", "application/json").body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let text = response.text().await.unwrap();
        assert!(!text.contains("hunter2"), "{text}");
    }
    server.stop().await;
}
