//! The stream behind the page: a WebSocket that gets a picture at once and after each interval.
//!
//! A picture is computed once for all sockets. A page that is slow gets the latest one when it is ready for it, never a queue of old ones.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, Session};
use ers_auth::authz::ReadLive;
use ers_auth::{Authorized, Principal};
use ers_store::SecretHash;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::session::refuse_foreign_origin;
use crate::app::App;
use crate::http::{Answer, ApiError, Call};
use crate::overview::{INTERVAL, Snapshot};

const PING_EVERY: Duration = Duration::from_secs(15);
/// The session has ended; the page asks for a new log-in.
const SESSION_ENDED: u16 = 4401;
/// A page says nothing but pongs.
const MAX_FRAME: usize = 4 * 1024;
/// A message that can't be handed to the connection within this time: the peer is gone or as good as.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Hands one picture to all sockets.
pub struct LiveHub(watch::Sender<Option<Snapshot>>);

impl Default for LiveHub {
    fn default() -> Self {
        LiveHub(watch::Sender::new(None))
    }
}

impl LiveHub {
    /// Computes a picture per interval while anybody watches.
    pub async fn run(app: Arc<App>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            if app.live.0.receiver_count() == 0 {
                continue;
            }
            match app.overviews.get(&app, Duration::ZERO).await {
                Ok(snapshot) => drop(app.live.0.send_replace(Some(snapshot))),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the live picture could not be made")
                }
            }
        }
    }
}

pub async fn open(auth: Authorized<ReadLive>, call: Call, payload: web::Payload) -> Answer {
    let Principal::User { session: key, .. } = auth.principal() else {
        return Err(ApiError::bad_request("only a page can watch live"));
    };
    // Cookies travel with WebSockets of foreign pages too, and no CSRF token does.
    if call.header("Origin").is_none() {
        return Err(ApiError::new(
            actix_web::http::StatusCode::FORBIDDEN,
            "ForeignOrigin",
            "a WebSocket must say its origin",
        ));
    }
    refuse_foreign_origin(&call)?;
    let permit = call.app.sockets.clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::unavailable("TooManySockets", "too many pages are watched live"))?;
    let (response, session, messages) = actix_ws::handle(&call.request, payload)
        .map_err(|_| ApiError::bad_request("this address speaks WebSocket only"))?;
    let socket = Socket { app: call.app.clone(), key: *key, session, _permit: permit };
    actix_web::rt::spawn(socket.run(messages.max_frame_size(MAX_FRAME)));
    Ok(response)
}

struct Socket {
    app: Arc<App>,
    key: SecretHash,
    session: Session,
    _permit: OwnedSemaphorePermit,
}

enum End {
    /// The peer closed, or is gone.
    Peer,
    SessionEnded,
    Stopping,
}

impl Socket {
    async fn run(mut self, messages: MessageStream) {
        self.app.metrics.live_sockets.inc();
        let end = self.serve(messages).await;
        self.app.metrics.live_sockets.dec();
        let reason = match end {
            End::Peer => None,
            End::SessionEnded => Some((CloseCode::Other(SESSION_ENDED), "the session has ended")),
            End::Stopping => Some((CloseCode::Away, "the server stops")),
        };
        let reason = reason.map(|(code, text)| CloseReason { code, description: Some(text.to_owned()) });
        drop(self.session.close(reason).await);
    }

    async fn serve(&mut self, mut messages: MessageStream) -> End {
        let mut pictures = self.app.live.0.subscribe();
        match self.app.overviews.get(&self.app, INTERVAL).await {
            Ok(snapshot) => {
                if self.send(picture(&snapshot)).await.is_err() {
                    return End::Peer;
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the first picture could not be made")
            }
        }
        let stop = self.app.stop.clone();
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
        loop {
            tokio::select! {
                _ = stop.cancelled() => return End::Stopping,
                message = messages.recv() => match message {
                    Some(Ok(Message::Ping(bytes))) => {
                        if self.session.pong(&bytes).await.is_err() {
                            return End::Peer;
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Peer,
                    Some(Ok(_)) => {}
                },
                changed = pictures.changed() => {
                    if changed.is_err() {
                        return End::Stopping;
                    }
                    let snapshot = pictures.borrow_and_update().clone();
                    let Some(snapshot) = snapshot else { continue };
                    if !self.session_is_live().await {
                        return End::SessionEnded;
                    }
                    if self.send(picture(&snapshot)).await.is_err() {
                        return End::Peer;
                    }
                }
                _ = ping.tick() => {
                    if !self.session_is_live().await {
                        return End::SessionEnded;
                    }
                    if self.send(r#"{"type":"ping"}"#.to_owned()).await.is_err() {
                        return End::Peer;
                    }
                }
            }
        }
    }

    /// A state store that fails for a moment ends no session.
    async fn session_is_live(&self) -> bool {
        self.app.auth.session_is_live(self.key).await.unwrap_or(true)
    }

    async fn send(&mut self, text: String) -> Result<(), ()> {
        match tokio::time::timeout(SEND_TIMEOUT, self.session.text(text)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(()),
        }
    }
}

fn picture(snapshot: &Snapshot) -> String {
    let body = snapshot.json.strip_prefix('{').unwrap_or_default();
    format!("{{\"type\":\"snapshot\",{body}")
}
