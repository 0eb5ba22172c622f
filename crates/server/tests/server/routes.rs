//! Walks the route table: whatever is added to it is held to the same rules.

use actix_web::http::Method;
use ers_auth::{Action, Resource};
use ers_plan::ServerLimits;
use ers_server::http::{Dialect, Listener, Route, routes};
use ers_store::Scope;

use crate::harness::{Credential, Session, TestServer};

/// Addresses that everybody may see. A new one is a decision, made here.
const PUBLIC: [&str; 6] =
    ["GET /", "GET /login", "GET /assets/{path:.*}", "GET /livez", "GET /readyz", "POST /ers/v1/session"];

fn table() -> Vec<Route> {
    routes::all(&ServerLimits::default())
}

fn title(route: &Route) -> String {
    format!("{} {}", route.method, route.path)
}

fn address(server: &TestServer, route: &Route) -> String {
    let base = if route.listener == Listener::Main { &server.url } else { &server.metrics_url };
    let path = route
        .path
        .replace("{path:.*}", "app.js")
        .replace("{id}", "0192f3a0-0000-7000-8000-000000000000")
        .replace("{name}", "job");
    format!("{base}{path}")
}

fn request(server: &TestServer, route: &Route) -> reqwest::RequestBuilder {
    let method = reqwest::Method::from_bytes(route.method.as_str().as_bytes()).unwrap();
    // As a page of ours would: the live socket insists on it.
    server.client.request(method, address(server, route)).header("Origin", &server.url)
}

struct Callers {
    admin: Session,
    viewer: Session,
    read: String,
    write: String,
    scope_admin: String,
    agent: String,
}

impl Callers {
    async fn make(server: &TestServer) -> Self {
        Callers {
            admin: server.admin().await,
            viewer: server.viewer().await,
            read: server.token(&[Scope::Read]).await,
            write: server.token(&[Scope::Write]).await,
            scope_admin: server.token(&[Scope::Admin]).await,
            agent: server.agent_key("nodes", "host").await,
        }
    }

    /// One who may, and one who may not.
    fn pair(&self, route: &Route) -> (&dyn Credential, &dyn Credential) {
        let permission = route.permission.unwrap();
        match (permission.action, permission.resource) {
            (Action::Read, Resource::Metrics | Resource::Objects) => (&self.read, &self.write),
            (Action::Write, Resource::Metrics) => (&self.write, &self.admin),
            (_, Resource::ApiTokens | Resource::AuditLog) => (&self.scope_admin, &self.viewer),
            (_, Resource::Session | Resource::Password | Resource::Live) => (&self.viewer, &self.read),
            (_, Resource::OwnMetrics) => (&self.read, &self.admin),
            (_, Resource::ApiDescription) => (&self.write, &self.agent),
            other => panic!("no callers for {other:?}"),
        }
    }
}

#[test]
fn the_public_addresses_are_these_and_no_others() {
    let public: Vec<String> = table().iter().filter(|route| route.permission.is_none()).map(title).collect();
    assert_eq!(public, PUBLIC);
}

#[test]
fn no_method_of_a_path_is_listed_twice_and_every_route_is_described() {
    let mut seen = std::collections::BTreeSet::new();
    for route in table() {
        assert!(seen.insert(title(&route)), "{} is there twice", title(&route));
        assert!(!route.summary.is_empty(), "{} has no summary", title(&route));
        assert!(route.accepts.is_empty() || route.method != Method::GET, "{}", title(&route));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_credential_every_guarded_route_answers_401() {
    let server = TestServer::start().await;
    for route in table() {
        let answers = [
            request(&server, &route).send().await.unwrap(),
            request(&server, &route).bearer_auth("ers_nonsense").send().await.unwrap(),
            request(&server, &route).header("Authorization", "Basic YTpi").send().await.unwrap(),
            request(&server, &route).header("Cookie", "__Host-ers-session=AAAA").send().await.unwrap(),
        ];
        for answer in answers {
            let status = answer.status().as_u16();
            if route.permission.is_some() {
                assert_eq!(status, 401, "{}", title(&route));
                assert!(answer.headers().contains_key("www-authenticate"));
            } else {
                assert_ne!(status, 401, "{}", title(&route));
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lacks_the_right_gets_403_and_whoever_has_it_does_not() {
    let server = TestServer::start().await;
    let callers = Callers::make(&server).await;
    // What ends the caller's own session comes last.
    let mut table: Vec<Route> = table().into_iter().filter(|route| route.permission.is_some()).collect();
    table.sort_by_key(|route| route.method == Method::DELETE && route.path == "/ers/v1/session");
    for route in table {
        let (may, may_not) = callers.pair(&route);
        let refused = may_not.on(request(&server, &route)).send().await.unwrap();
        assert_eq!(refused.status(), 403, "{}", title(&route));
        let granted = may.on(request(&server, &route)).send().await.unwrap();
        assert!(![401, 403].contains(&granted.status().as_u16()), "{}: {}", title(&route), granted.status());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_method_is_answered_with_405_and_the_right_ones() {
    let server = TestServer::start().await;
    for route in table() {
        let answer = server.client.patch(address(&server, &route)).send().await.unwrap();
        assert_eq!(answer.status(), 405, "{}", title(&route));
        assert!(answer.headers()["allow"].to_str().unwrap().contains(route.method.as_str()));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_answered_with_413_announced_or_not() {
    let server = TestServer::start().await;
    let callers = Callers::make(&server).await;
    for route in table().iter().filter(|route| route.path != "/ers/v1/live") {
        let body = vec![b'a'; route.body_limit + 1];
        // Clients send no body of unknown length with a GET.
        for chunked in [false, true].into_iter().filter(|chunked| !chunked || route.method != Method::GET) {
            let mut asked = request(&server, route).header("Content-Type", "application/json");
            if route.permission.is_some() {
                asked = callers.pair(route).0.on(asked);
            }
            let asked = if chunked {
                let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
                    body.chunks(64 * 1024).map(|piece| Ok(piece.to_vec())).collect();
                asked.body(reqwest::Body::wrap_stream(futures::stream::iter(pieces)))
            } else {
                asked.body(body.clone())
            };
            let answer =
                asked.send().await.unwrap_or_else(|error| panic!("{} chunked {chunked}: {error:?}", title(route)));
            assert_eq!(answer.status(), 413, "{} chunked {chunked}", title(route));
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_body_is_answered_with_400_in_the_shape_of_its_api() {
    let server = TestServer::start().await;
    let callers = Callers::make(&server).await;
    for route in table().iter().filter(|route| !route.accepts.is_empty()) {
        for body in [&b"\xff\xfe not what you expect"[..], b"{", b"%zz=%"] {
            if body == b"{" && route.accepts[0].ends_with("form-urlencoded") {
                // A parameter with an odd name, but one.
                continue;
            }
            let mut asked = request(&server, route).header("Content-Type", route.accepts[0]).body(body);
            if route.permission.is_some() {
                asked = callers.pair(route).0.on(asked);
            }
            let answer = asked.send().await.unwrap();
            assert_eq!(answer.status(), 400, "{} with {body:?}", title(route));
            let error: serde_json::Value = answer.json().await.unwrap();
            match route.dialect {
                Dialect::Ers => assert!(error["error"]["message"].is_string(), "{error}"),
                Dialect::Prometheus => assert_eq!(error["status"], "error", "{error}"),
                Dialect::Plain => panic!("{} takes a body and answers plain text", title(route)),
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_carries_the_protective_headers() {
    let server = TestServer::start().await;
    for path in ["/", "/login", "/assets/app.js", "/livez", "/api/v1/nothing", "/ers/v1/session", "/nothing"] {
        let answer = server.get(path).send().await.unwrap();
        let headers = answer.headers();
        for name in ["x-request-id", "strict-transport-security", "x-content-type-options", "referrer-policy"] {
            assert!(headers.contains_key(name), "{name} of {path}");
        }
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_is_served_and_nothing_else_of_its_folder() {
    let server = TestServer::start().await;
    let page = server.get("/").send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers()["cache-control"], "no-cache");
    let tag = page.headers()["etag"].clone();
    let again = server.get("/").header("If-None-Match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    let packed = server.get("/assets/app.js").header("Accept-Encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-type"], "text/javascript; charset=utf-8");
    for missing in [
        "/README.md",
        "/index.html",
        "/assets/../README.md",
        "/assets/%2e%2e/README.md",
        "/assets/vendor/chart-LICENSE.md",
        "/assets/",
    ] {
        assert_eq!(server.get(missing).send().await.unwrap().status(), 404, "{missing}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_names_every_route_of_the_main_listener() {
    let server = TestServer::start().await;
    let token = server.token(&[Scope::Read]).await;
    let described: serde_json::Value =
        token.on(server.get("/ers/v1/openapi.json")).send().await.unwrap().json().await.unwrap();
    for route in table().iter().filter(|route| route.listener == Listener::Main) {
        let path = route.path.replace("{path:.*}", "{path}");
        let operation = &described["paths"][&path][route.method.as_str().to_ascii_lowercase()];
        assert_eq!(operation["summary"], route.summary, "{path}");
        assert_eq!(operation["security"].as_array().map(Vec::is_empty), Some(route.permission.is_none()), "{path}");
    }
    server.stop().await;
}
