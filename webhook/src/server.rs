//! The HTTPS listener on 9443: `/validate`, `/livez`, `/readyz`.
//!
//! Every replica serves it, leader or not. Bodies over [`MAX_BODY`] are refused with 413 before they are read into
//! memory; what is not an `AdmissionReview` gets 400.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};

use crate::admission;
use crate::identity::{self, Identity};

/// Most bytes of a review: two versions of an object of the API server's 1.5 MiB, and what surrounds them.
pub const MAX_BODY: usize = 4 << 20;

/// Why a replica is not ready; empty when it is.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to set up TLS for the webhook")]
    Tls(#[source] identity::Error),
    #[error("failed to listen for the webhook")]
    Listen(#[source] std::io::Error),
}

/// Starts the listener; the returned server runs when awaited, until it is stopped through its handle.
///
/// # Errors
/// When TLS cannot be set up or the socket cannot be used.
pub fn start(
    listener: TcpListener,
    identity: &Identity,
    readiness: Readiness,
    metrics: admission::Metrics,
) -> Result<Server, Error> {
    let tls = identity.server_config().map_err(Error::Tls)?;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .app_data(web::Data::new(Arc::clone(&readiness)))
            .app_data(web::Data::new(metrics.clone()))
            .route("/validate", web::post().to(admission::validate))
            .route("/livez", web::get().to(livez))
            .route("/readyz", web::get().to(readyz))
    })
    .workers(1)
    .backlog(256)
    .client_request_timeout(Duration::from_secs(5))
    .shutdown_timeout(5)
    .disable_signals()
    .listen_rustls_0_23(listener, tls)
    .map_err(Error::Listen)?;
    Ok(server.run())
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok().body("ok\n")
}

async fn readyz(readiness: web::Data<Readiness>) -> HttpResponse {
    let missing = readiness();
    if missing.is_empty() {
        return HttpResponse::Ok().body("ok\n");
    }
    HttpResponse::ServiceUnavailable().body(missing.join("\n") + "\n")
}
