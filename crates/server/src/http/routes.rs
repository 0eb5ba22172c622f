//! Every address of the server, in one place.

use actix_web::http::Method;
use ers_auth::authz::{
    CreateApiTokens, DeleteApiTokens, DeleteSession, ReadApiDescription, ReadApiTokens, ReadAuditLog, ReadOwnMetrics,
    ReadSession, WritePassword,
};

use super::page;
use super::table::{JSON_BODY, Listener, Route};
use crate::ers::{audit, openapi, session, tokens};
use crate::{health, own_metrics};

const JSON: &[&str] = &["application/json"];

/// The table.
pub fn all() -> Vec<Route> {
    let mut routes = vec![
        Route::public(Method::GET, "/", page::index).summary("The page"),
        Route::public(Method::GET, "/login", page::login).summary("The page to log in at"),
        Route::public(Method::GET, "/assets/{path:.*}", page::asset).quiet().summary("Scripts and styles of the page"),
        Route::public(Method::GET, "/livez", health::live).quiet().summary("Whether the process answers"),
        Route::public(Method::GET, "/readyz", health::ready).quiet().summary("Whether the server is ready, or why not"),
    ];
    routes.extend(own());
    routes.push(
        Route::guarded::<ReadOwnMetrics, _, _>(Method::GET, "/metrics", own_metrics::show)
            .on(Listener::Metrics)
            .quiet()
            .summary("The server's figures about itself"),
    );
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
        Route::guarded::<ReadAuditLog, _, _>(Method::GET, "/ers/v1/audit", audit::list)
            .summary("Audit events, newest first"),
        Route::guarded::<ReadApiDescription, _, _>(Method::GET, "/ers/v1/openapi.json", openapi::show)
            .summary("This description"),
    ]
}
