//! The description of this API, made from the route table: it cannot name a route that is not there, nor forget one.

use std::sync::Arc;

use actix_web::HttpResponse;
use ers_auth::authz::ReadApiDescription;
use ers_auth::{Authorized, Resource};
use serde_json::{Map, Value, json};

use crate::http::dispatch::{CSRF_HEADER, SESSION_COOKIE};
use crate::http::{Answer, Call, Dialect, Listener, Route};

pub async fn show(_auth: Authorized<ReadApiDescription>, call: Call) -> Answer {
    Ok(HttpResponse::Ok().json(call.app.api_description.as_ref()))
}

/// Built once, when the server starts.
pub fn describe(routes: &[Route]) -> Arc<Value> {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes.iter().filter(|route| route.listener == Listener::Main) {
        let (path, parameters) = parts(route.path);
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[route.method.as_str().to_ascii_lowercase()] = operation(route, &parameters);
    }
    Arc::new(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Enterprise Reporting System: server of one ReportPolicy",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Requests with a session that are not GET carry the session's CSRF token in a header. Lists page by `cursor`: hand in `nextCursor` until it is null.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
                "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API token `ers_...`, an agent's key, or a Kubernetes token of this server's audience."},
            },
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error", "requestId"],
                    "properties": {
                        "error": {
                            "type": "object",
                            "required": ["code", "message"],
                            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "field": {"type": "string"}},
                        },
                        "requestId": {"type": "string"},
                    },
                },
                "PrometheusError": {
                    "type": "object",
                    "required": ["status", "errorType", "error"],
                    "properties": {"status": {"const": "error"}, "errorType": {"type": "string"}, "error": {"type": "string"}},
                },
            },
        },
    }))
}

/// `{name}` and `{name:regex}` of actix-web as OpenAPI has them.
fn parts(path: &str) -> (String, Vec<String>) {
    let mut shown = String::new();
    let mut names = Vec::new();
    for (at, piece) in path.split('{').enumerate() {
        if at == 0 {
            shown.push_str(piece);
            continue;
        }
        let (inside, after) = piece.split_once('}').unwrap_or((piece, ""));
        let name = inside.split(':').next().unwrap_or(inside).to_owned();
        shown.push_str(&format!("{{{name}}}{after}"));
        names.push(name);
    }
    (shown, names)
}

fn operation(route: &Route, parameters: &[String]) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses(route),
        "security": security(route),
    });
    if !route.accepts.is_empty() {
        let content: Map<String, Value> =
            route.accepts.iter().map(|accepted| ((*accepted).to_owned(), json!({"schema": {}}))).collect();
        operation["requestBody"] =
            json!({"content": content, "description": format!("At most {} bytes.", route.body_limit)});
    }
    if let Some(permission) = route.permission {
        operation["x-ers-permission"] =
            json!({"action": format!("{:?}", permission.action), "resource": format!("{:?}", permission.resource)});
    }
    operation
}

fn security(route: &Route) -> Value {
    let Some(permission) = route.permission else { return json!([]) };
    let session = if route.method == actix_web::http::Method::GET {
        json!({"session": []})
    } else {
        json!({"session": [], "csrf": []})
    };
    match permission.resource {
        Resource::Session | Resource::Password | Resource::Live => json!([session]),
        _ if route.path == "/api/v1/write" => json!([{"bearer": []}]),
        _ => json!([session, {"bearer": []}]),
    }
}

fn responses(route: &Route) -> Value {
    let error = match route.dialect {
        Dialect::Ers => json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}),
        Dialect::Prometheus => {
            json!({"application/json": {"schema": {"$ref": "#/components/schemas/PrometheusError"}}})
        }
        Dialect::Plain => json!({"text/plain": {"schema": {"type": "string"}}}),
    };
    json!({
        "2XX": {"description": "It worked."},
        "4XX": {"description": "The request is at fault.", "content": error},
        "5XX": {"description": "The server is at fault, or it asks to try later (503 with Retry-After).", "content": error},
    })
}
