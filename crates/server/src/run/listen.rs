//! The two listeners.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{App as ActixApp, HttpServer};
use anyhow::Context as _;

use crate::app::App;
use crate::http::{Listener, Route, dispatch};
use crate::tls::{self, CurrentCertificate};

const MAX_CONNECTIONS: usize = 4_096;
/// Headers must have come within this time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Requests that run when the server stops have this long to end; a query's own limit may be longer, it is cut off.
const STOP_SECONDS: u64 = 10;

/// A port may still be held for a moment by whoever had it before.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let mut attempt = 0;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && attempt < 20 => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {address}")),
        }
    }
}

pub fn serve(
    socket: TcpListener,
    listener: Listener,
    routes: &Arc<Vec<Route>>,
    app: &Arc<App>,
    certificate: Arc<CurrentCertificate>,
) -> anyhow::Result<Server> {
    let (routes, app) = (routes.clone(), app.clone());
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
    let server = HttpServer::new(move || {
        ActixApp::new().configure(|service| dispatch::configure(&routes, listener, &app, service))
    })
    .workers(workers)
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(REQUEST_TIMEOUT)
    .tls_handshake_timeout(HANDSHAKE_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    // A caller that closes its side is gone: what it asked for is not worth computing. (HTTP/2 has no such word from actix-web: there the
    // time limit of a query ends it.)
    .h1_allow_half_closed(false)
    .shutdown_timeout(STOP_SECONDS)
    .disable_signals()
    .listen_rustls_0_23(socket, tls::server_config(certificate))
    .context("cannot serve")?;
    Ok(server.run())
}
