//! HTTPS on 8443: `/metrics`, for callers who may `get` the non-resource URL `/metrics`.
//!
//! The API server is asked twice for each new token: who is it (TokenReview), and may they (SubjectAccessReview). The
//! answer is kept for a minute under the token's SHA-256. If the API server cannot be asked it is 503, never 401.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};
use ers_controllers::metrics::SharedMetrics;
use ers_controllers::world::World;
use ers_telemetry::{METRICS_CONTENT_TYPE, Metrics};
use ers_webhook::admission;
use ers_webhook::identity::Identity;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::gate::{Calls, Verb};
use crate::lease::Handle;

/// How long an answer about a token is kept.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Most tokens that are remembered; beyond it all are forgotten.
const MOST_TOKENS: usize = 256;
/// Longest token that is looked at.
const LONGEST_TOKEN: usize = 16 << 10;

/// Everything that is told.
pub struct Sources {
    pub calls: Calls,
    pub lease: Handle,
    pub identity: Identity,
    pub controllers: SharedMetrics,
    pub admission: admission::Metrics,
}

/// The registry with everything in it.
pub fn registry(sources: Sources) -> Metrics {
    let Sources { calls, lease, identity, controllers, admission } = sources;
    let mut metrics = Metrics::new("operator");
    controllers.register(metrics.registry());
    admission.register(metrics.registry());
    metrics.registry().register_collector(Box::new(Process { calls, lease, identity }));
    metrics
}

struct Process {
    calls: Calls,
    lease: Handle,
    identity: Identity,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Process")
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut calls =
            encoder.encode_descriptor("api_calls", "Requests to the API server", None, MetricType::Counter)?;
        for verb in Verb::ALL {
            let labels = [("verb", verb.as_str())];
            ConstCounter::new(self.calls.count(verb)).encode(calls.encode_family(&labels)?)?;
        }
        let mut gauge = |name: &str, help: &str, value: i64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        gauge("leader", "1 while this replica holds the lease", i64::from(self.lease.is_leader()))?;
        let token = i64::try_from(self.lease.transitions()).unwrap_or(i64::MAX);
        gauge("lease_transitions", "How often the lease had changed hands when this replica took it", token)?;
        let expiry = self.identity.not_after();
        gauge("webhook_certificate_expiry_seconds", "When the webhook's certificate ends, Unix time", expiry)
    }
}

/// Who may read, as the API server said.
pub struct Guard {
    client: Client,
    known: Mutex<HashMap<[u8; 32], (Answer, Instant)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Permitted,
    Unknown,
    Forbidden,
}

impl Guard {
    pub fn new(client: Client) -> Self {
        Guard { client, known: Mutex::default() }
    }

    async fn ask(&self, token: &str) -> Result<Answer, kube::Error> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((answer, until)) = known.get(&hash)
                && *until > Instant::now()
            {
                return Ok(*answer);
            }
        }
        let answer = self.review(token).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_TOKENS {
            known.clear();
        }
        known.insert(hash, (answer, Instant::now() + REMEMBERED));
        Ok(answer)
    }

    async fn review(&self, token: &str) -> Result<Answer, kube::Error> {
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let question = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None },
            ..TokenReview::default()
        };
        let status = reviews.create(&PostParams::default(), &question).await?.status.unwrap_or_default();
        let (Some(true), Some(user)) = (status.authenticated, status.user) else { return Ok(Answer::Unknown) };
        let access: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let question = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username,
                groups: user.groups,
                uid: user.uid,
                extra: user.extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some("/metrics".to_owned()),
                    verb: Some("get".to_owned()),
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let status = access.create(&PostParams::default(), &question).await?.status.unwrap_or_default();
        Ok(if status.allowed { Answer::Permitted } else { Answer::Forbidden })
    }
}

struct Shared {
    guard: Guard,
    metrics: Metrics,
    world: Arc<World>,
}

/// Starts the listener.
///
/// # Errors
/// When TLS cannot be set up or the socket cannot be used.
pub fn start(
    listener: TcpListener,
    identity: &Identity,
    guard: Guard,
    metrics: Metrics,
    world: Arc<World>,
) -> Result<Server> {
    let tls = identity.server_config().context("setting up TLS for the metrics")?;
    let shared = web::Data::new(Shared { guard, metrics, world });
    let server = HttpServer::new(move || App::new().app_data(shared.clone()).route("/metrics", web::get().to(serve)))
        .workers(1)
        .backlog(64)
        .client_request_timeout(Duration::from_secs(5))
        .shutdown_timeout(1)
        .disable_signals()
        .listen_rustls_0_23(listener, tls)
        .context("listening for the metrics")?;
    Ok(server.run())
}

async fn serve(request: HttpRequest, shared: web::Data<Shared>) -> HttpResponse {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).filter(|token| token.len() <= LONGEST_TOKEN);
    let Some(token) = token else {
        return HttpResponse::Unauthorized()
            .insert_header((WWW_AUTHENTICATE, "Bearer"))
            .body("a bearer token is needed\n");
    };
    match shared.guard.ask(token).await {
        Ok(Answer::Permitted) => {
            ers_controllers::run::refresh_gauges(&shared.world);
            HttpResponse::Ok().content_type(METRICS_CONTENT_TYPE).body(shared.metrics.encode())
        }
        Ok(Answer::Unknown) => {
            HttpResponse::Unauthorized().insert_header((WWW_AUTHENTICATE, "Bearer")).body("the token is not known\n")
        }
        Ok(Answer::Forbidden) => HttpResponse::Forbidden()
            .body("get on the non-resource URL /metrics is needed: ClusterRole ers-metrics-reader\n"),
        Err(error) => {
            tracing::warn!(error = %error, "a caller of the metrics could not be judged");
            HttpResponse::ServiceUnavailable()
                .insert_header((RETRY_AFTER, "10"))
                .body("the API server cannot be asked who is calling\n")
        }
    }
}
