use ers_store::Scope;
use serde_json::{Value, json};

use crate::harness::{Credential as _, TestServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_made_used_listed_and_revoked_and_each_step_is_audited() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let body = json!({"name": "ci", "scopes": ["admin", "read", "read"], "expiresInDays": 90});
    let made =
        admin.on(server.post("/ers/v1/tokens")).header("X-Request-Id", "trace-0123").json(&body).send().await.unwrap();
    assert_eq!(made.status(), 201);
    assert_eq!(made.headers()["x-request-id"], "trace-0123");
    let made: Value = made.json().await.unwrap();
    assert_eq!(made["scopes"], json!(["read", "admin"]));
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("ers_"));

    let list: Value = secret.on(server.get("/ers/v1/tokens")).send().await.unwrap().json().await.unwrap();
    assert_eq!(list["items"][0]["id"], made["id"]);
    assert_eq!(list["items"][0].get("secret"), None, "shown once");
    assert_eq!(list["items"][0]["lastUsedAt"].as_str().map(str::len), Some(20));

    let path = format!("/ers/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(admin.on(server.delete(&path)).send().await.unwrap().status(), 204);
    assert_eq!(admin.on(server.delete(&path)).send().await.unwrap().status(), 404);
    assert_eq!(secret.on(server.get("/ers/v1/tokens")).send().await.unwrap().status(), 401);

    let audit: Value = admin.on(server.get("/ers/v1/audit?limit=50")).send().await.unwrap().json().await.unwrap();
    // What the server puts in force is audited too, whenever it comes to it.
    let of_people = |item: &&Value| item["action"] != "ActivateSpec";
    let items: Vec<&Value> = audit["items"].as_array().unwrap().iter().filter(of_people).collect();
    let actions: Vec<&str> = items.iter().map(|item| item["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["RevokeToken", "CreateToken", "LogIn", "CreateUser", "CreateTenant"]);
    assert_eq!(items[1]["requestId"], "trace-0123");
    assert_eq!(items[1]["actor"], "User/admin");
    assert_eq!(items[1]["sourceAddress"], "127.0.0.1");
    assert_eq!(items[1]["cluster"], "local");
    assert!(!audit.to_string().contains(&secret[37..]), "no secret in the audit log");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_page_by_cursor() {
    let server = TestServer::start().await;
    for _ in 0..5 {
        server.token(&[Scope::Read]).await;
    }
    let admin = server.token(&[Scope::Admin]).await;
    let mut seen = 0;
    let mut path = "/ers/v1/tokens?limit=4".to_owned();
    loop {
        let page: Value = admin.on(server.get(&path)).send().await.unwrap().json().await.unwrap();
        seen += page["items"].as_array().unwrap().len();
        let Some(next) = page["nextCursor"].as_str() else { break };
        path = format!("/ers/v1/tokens?limit=4&cursor={next}");
    }
    assert_eq!(seen, 6);
    for wrong in ["limit=0", "limit=5000", "limit=x", "cursor=x"] {
        let response = admin.on(server.get(&format!("/ers/v1/tokens?{wrong}"))).send().await.unwrap();
        assert_eq!(response.status(), 400, "{wrong}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_cannot_hand_on_what_it_has_not() {
    let server = TestServer::start().await;
    let admin = server.token(&[Scope::Admin]).await;
    let stronger = json!({"name": "x", "scopes": ["admin", "write"]});
    let refused = admin.on(server.post("/ers/v1/tokens")).json(&stronger).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let same = json!({"name": "x", "scopes": ["admin"]});
    assert_eq!(admin.on(server.post("/ers/v1/tokens")).json(&same).send().await.unwrap().status(), 201);
    for (wrong, field) in [
        (json!({"name": " ", "scopes": ["admin"]}), "name"),
        (json!({"name": "x".repeat(101), "scopes": ["admin"]}), "name"),
        (json!({"name": "x", "scopes": []}), "scopes"),
        (json!({"name": "x", "scopes": ["admin"], "expiresInDays": 0}), "expiresInDays"),
        (json!({"name": "x", "scopes": ["admin"], "expiresInDays": 99999}), "expiresInDays"),
    ] {
        let response = admin.on(server.post("/ers/v1/tokens")).json(&wrong).send().await.unwrap();
        assert_eq!(response.status(), 400, "{wrong}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["field"], field);
    }
    server.stop().await;
}
