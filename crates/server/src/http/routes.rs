//! Every address of the server, in one place.

use actix_web::http::Method;
use ers_auth::authz::{
    CreateApiTokens, DeleteApiTokens, DeleteSession, ReadApiDescription, ReadApiTokens, ReadAuditLog, ReadLive,
    ReadMetrics, ReadObjects, ReadOwnMetrics, ReadSession, WriteMetrics, WritePassword,
};
use ers_plan::ServerLimits;

use super::page;
use super::table::{FORM_BODY, JSON_BODY, Listener, Route};
use crate::api::{query, series, status, write};
use crate::ers::{audit, live, objects, openapi, session, tokens};
use crate::{health, own_metrics};

const JSON: &[&str] = &["application/json"];

const FORM: &[&str] = &["application/x-www-form-urlencoded"];

/// The table. Of the settings it needs the size of a write.
pub fn all(limits: &ServerLimits) -> Vec<Route> {
    let mut routes = vec![
        Route::public(Method::GET, "/", page::index).summary("The page"),
        Route::public(Method::GET, "/login", page::login).summary("The page to log in at"),
        Route::public(Method::GET, "/assets/{path:.*}", page::asset).quiet().summary("Scripts and styles of the page"),
        Route::public(Method::GET, "/livez", health::live).quiet().summary("Whether the process answers"),
        Route::public(Method::GET, "/readyz", health::ready).quiet().summary("Whether the server is ready, or why not"),
    ];
    routes.extend(prometheus(limits));
    routes.extend(own());
    routes.push(
        Route::guarded::<ReadOwnMetrics, _, _>(Method::GET, "/metrics", own_metrics::show)
            .on(Listener::Metrics)
            .quiet()
            .summary("The server's figures about itself"),
    );
    routes
}

fn prometheus(limits: &ServerLimits) -> Vec<Route> {
    let write_limit = usize::try_from(limits.max_write_bytes).unwrap_or(usize::MAX);
    let mut routes = vec![
        Route::guarded::<WriteMetrics, _, _>(Method::POST, "/api/v1/write", write::receive)
            .body(write_limit, &["application/x-protobuf"])
            .quiet()
            .summary("Remote write 1.0; answered when it survives power loss"),
        Route::guarded::<ReadMetrics, _, _>(Method::GET, "/api/v1/label/{name}/values", series::values)
            .quiet()
            .summary("Values of one label"),
        Route::guarded::<ReadMetrics, _, _>(Method::GET, "/api/v1/metadata", status::metadata)
            .quiet()
            .summary("Types and help of metrics"),
        Route::guarded::<ReadMetrics, _, _>(Method::GET, "/api/v1/status/buildinfo", status::build_info)
            .quiet()
            .summary("Which version of Prometheus' API is spoken"),
    ];
    for method in [Method::GET, Method::POST] {
        // Only a POST has a form.
        let form = |route: Route| if route.method == Method::POST { route.body(FORM_BODY, FORM) } else { route };
        routes.extend([
            form(Route::guarded::<ReadMetrics, _, _>(method.clone(), "/api/v1/query", query::instant))
                .quiet()
                .summary("PromQL at one time"),
            form(Route::guarded::<ReadMetrics, _, _>(method.clone(), "/api/v1/query_range", query::range))
                .quiet()
                .summary("PromQL over a range"),
            form(Route::guarded::<ReadMetrics, _, _>(method.clone(), "/api/v1/series", series::series))
                .quiet()
                .summary("Series that match"),
            form(Route::guarded::<ReadMetrics, _, _>(method, "/api/v1/labels", series::labels))
                .quiet()
                .summary("Names of labels"),
        ]);
    }
    routes
}

fn own() -> Vec<Route> {
    vec![
        Route::public(Method::POST, "/ers/v1/session", session::log_in).body(JSON_BODY, JSON).summary("Log in"),
        Route::guarded::<ReadSession, _, _>(Method::GET, "/ers/v1/session", session::show)
            .quiet()
            .summary("Who is logged in"),
        Route::guarded::<DeleteSession, _, _>(Method::DELETE, "/ers/v1/session", session::log_out).summary("Log out"),
        Route::guarded::<WritePassword, _, _>(Method::POST, "/ers/v1/password", session::change_password)
            .body(JSON_BODY, JSON)
            .summary("Change one's own password; ends one's other sessions"),
        Route::guarded::<ReadApiTokens, _, _>(Method::GET, "/ers/v1/tokens", tokens::list)
            .summary("API tokens, newest first"),
        Route::guarded::<CreateApiTokens, _, _>(Method::POST, "/ers/v1/tokens", tokens::create)
            .body(JSON_BODY, JSON)
            .summary("Make an API token; its secret is shown this once"),
        Route::guarded::<DeleteApiTokens, _, _>(Method::DELETE, "/ers/v1/tokens/{id}", tokens::revoke)
            .summary("Revoke an API token"),
        Route::guarded::<ReadObjects, _, _>(Method::GET, "/ers/v1/objects", objects::list)
            .quiet()
            .summary("The policy and its targets with conditions"),
        Route::guarded::<ReadObjects, _, _>(Method::GET, "/ers/v1/overview", objects::overview)
            .quiet()
            .summary("Nodes, targets, objects and storage at this moment"),
        Route::socket::<ReadLive, _, _>("/ers/v1/live", live::open)
            .summary("WebSocket: the overview at once and after each interval"),
        Route::guarded::<ReadAuditLog, _, _>(Method::GET, "/ers/v1/audit", audit::list)
            .summary("Audit events, newest first"),
        Route::guarded::<ReadApiDescription, _, _>(Method::GET, "/ers/v1/openapi.json", openapi::show)
            .summary("This description"),
    ]
}
