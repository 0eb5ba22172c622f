//! Projected service-account tokens. One TokenReview per new token; the verdict is cached by the token's SHA-256 until the token ends, at most 10 minutes.
//!
//! `status.audiences` must name our audience; node and pod come from `status.user.extra`.
//! A review that cannot be made (API server gone, our own rights missing) is [`AuthError::Unavailable`]: the token may be good.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ers_model::Clock;
use ers_store::SecretHash;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::{Api, PostParams};
use tokio::sync::Semaphore;

use crate::error::AuthError;
use crate::identity::{AgentIdentity, Principal};
use crate::secret::sha256;

const CACHE_MS: i64 = 600_000;
/// After half of that the API server is asked again, so that an outage finds verdicts with minutes left.
const FRESH_MS: i64 = CACHE_MS / 2;
/// A refused token is asked about again after this long.
const REFUSED_CACHE_MS: i64 = 10_000;
const MAX_CACHED: usize = 10_000;
/// Longer texts are no tokens that an API server made.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const CONCURRENT_REVIEWS: usize = 8;
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a token waits for its turn, when many come at once.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Whoever can say what a token is worth.
#[async_trait]
pub trait TokenReviewer: Send + Sync {
    /// `Err` holds why nobody could say.
    async fn review(&self, token: &str, audience: &str) -> Result<TokenReviewStatus, String>;
}

/// The API server.
pub struct ApiServerReviewer(Api<TokenReview>);

impl ApiServerReviewer {
    pub fn new(client: kube::Client) -> Self {
        ApiServerReviewer(Api::all(client))
    }
}

#[async_trait]
impl TokenReviewer for ApiServerReviewer {
    async fn review(&self, token: &str, audience: &str) -> Result<TokenReviewStatus, String> {
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) },
            ..TokenReview::default()
        };
        let parameters = PostParams::default();
        let answer = tokio::time::timeout(REVIEW_TIMEOUT, self.0.create(&parameters, &review)).await.map_err(|_| {
            format!("the API server did not answer a TokenReview within {} s", REVIEW_TIMEOUT.as_secs())
        })?;
        // The error of a failed call may quote the request; only its kind is passed on.
        let answer = answer.map_err(|error| match error {
            kube::Error::Api(status) => {
                format!("the API server refused a TokenReview: {} {}", status.code, status.reason)
            }
            _ => "the API server cannot be reached for a TokenReview".to_owned(),
        })?;
        answer.status.ok_or_else(|| "the API server answered a TokenReview without a status".to_owned())
    }
}

/// Whom this server knows.
#[derive(Clone, Debug)]
pub struct Trust {
    pub audience: String,
    /// Namespace of the policy: its `<target>-agent` service accounts are agents.
    pub namespace: String,
    /// Namespace and name of the operator's service account.
    pub operator: (String, String),
}

#[derive(Clone)]
struct Cached {
    /// From here on the API server is asked again; while it can't be reached, the verdict holds until `until_ms`.
    fresh_until_ms: i64,
    until_ms: i64,
    verdict: Result<Principal, &'static str>,
}

pub struct KubernetesAuthenticator {
    reviewer: Arc<dyn TokenReviewer>,
    trust: Trust,
    clock: Arc<dyn Clock>,
    cache: Mutex<HashMap<SecretHash, Cached>>,
    reviews: Semaphore,
}

impl KubernetesAuthenticator {
    pub fn new(reviewer: Arc<dyn TokenReviewer>, trust: Trust, clock: Arc<dyn Clock>) -> Self {
        KubernetesAuthenticator {
            reviewer,
            trust,
            clock,
            cache: Mutex::new(HashMap::new()),
            reviews: Semaphore::new(CONCURRENT_REVIEWS),
        }
    }

    pub async fn authenticate(&self, token: &str) -> Result<Principal, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Unauthenticated("the token is too long"));
        }
        let key = sha256(token.as_bytes());
        let now_ms = self.clock.now_ms();
        let known = self.cached(&key, now_ms);
        if let Some(Cached { verdict, .. }) = known.clone().filter(|entry| now_ms < entry.fresh_until_ms) {
            return verdict.map_err(AuthError::Unauthenticated);
        }
        match self.review(token, key, now_ms).await {
            // An API server that is away for a while must not stop the samples of agents that it has vouched for minutes ago.
            Err(AuthError::Unavailable(why)) => match known {
                Some(entry) => {
                    tracing::warn!(why, "a token could not be reviewed again, its last verdict holds");
                    // Not asked again with every request: each would wait for the same silence.
                    let fresh_until_ms = entry.until_ms.min(now_ms + REFUSED_CACHE_MS);
                    self.remember(key, Cached { fresh_until_ms, ..entry.clone() }, now_ms);
                    entry.verdict.map_err(AuthError::Unauthenticated)
                }
                None => Err(AuthError::Unavailable(why)),
            },
            decided => decided,
        }
    }

    async fn review(&self, token: &str, key: SecretHash, now_ms: i64) -> Result<Principal, AuthError> {
        // A cheap look before the API server is asked: what does not even claim to be for us costs it nothing.
        let claims =
            Claims::read(token).ok_or(AuthError::Unauthenticated("the token is neither ours nor a JSON web token"))?;
        if !claims.audiences.contains(&self.trust.audience) {
            return Err(AuthError::Unauthenticated("the token is not for this server's audience"));
        }
        if claims.expires_at_ms <= now_ms {
            return Err(AuthError::Unauthenticated("the token has expired"));
        }
        let _permit = tokio::time::timeout(QUEUE_TIMEOUT, self.reviews.acquire())
            .await
            .map_err(|_| AuthError::Unavailable("too many tokens wait for a TokenReview".to_owned()))?
            .map_err(|_| AuthError::Unavailable("the server stops".to_owned()))?;
        // Somebody else may have asked the same while we waited.
        if let Some(entry) = self.cached(&key, now_ms).filter(|entry| now_ms < entry.fresh_until_ms) {
            return entry.verdict.map_err(AuthError::Unauthenticated);
        }
        let status = self.reviewer.review(token, &self.trust.audience).await.map_err(AuthError::Unavailable)?;
        let verdict = self.judge(status);
        let keep_ms = if verdict.is_ok() { CACHE_MS } else { REFUSED_CACHE_MS };
        let until_ms = claims.expires_at_ms.min(now_ms + keep_ms);
        let fresh_until_ms = until_ms.min(now_ms + FRESH_MS);
        self.remember(key, Cached { fresh_until_ms, until_ms, verdict: verdict.clone() }, now_ms);
        verdict.map_err(AuthError::Unauthenticated)
    }

    fn cached(&self, key: &SecretHash, now_ms: i64) -> Option<Cached> {
        let cache = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        cache.get(key).filter(|entry| now_ms < entry.until_ms).cloned()
    }

    fn remember(&self, key: SecretHash, entry: Cached, now_ms: i64) {
        let mut cache = self.cache.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if cache.len() >= MAX_CACHED {
            cache.retain(|_, entry| now_ms < entry.until_ms);
        }
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        cache.insert(key, entry);
    }

    fn judge(&self, status: TokenReviewStatus) -> Result<Principal, &'static str> {
        if status.authenticated != Some(true) {
            return Err("the API server does not accept the token");
        }
        // An API server that knows nothing of audiences answers none: then the token could be anybody's.
        let ours = status.audiences.unwrap_or_default().contains(&self.trust.audience);
        if !ours {
            return Err("the token is not for this server's audience");
        }
        let user = status.user.unwrap_or_default();
        let name = user.username.clone().unwrap_or_default();
        let Some((namespace, account)) =
            name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
        else {
            return Err("the token does not belong to a service account");
        };
        if (namespace, account) == (self.trust.operator.0.as_str(), self.trust.operator.1.as_str()) {
            return Ok(Principal::Operator { name });
        }
        match account.strip_suffix("-agent") {
            Some(target) if namespace == self.trust.namespace && !target.is_empty() => {
                Ok(Principal::Agent(AgentIdentity::KubernetesToken {
                    namespace: namespace.to_owned(),
                    target: target.to_owned(),
                    pod: extra(&user, POD_NAME),
                    pod_uid: extra(&user, POD_UID),
                    node: extra(&user, NODE_NAME),
                }))
            }
            _ => Ok(Principal::OtherServiceAccount { name }),
        }
    }
}

fn extra(user: &UserInfo, key: &str) -> Option<String> {
    let extra: &BTreeMap<String, Vec<String>> = user.extra.as_ref()?;
    extra.get(key)?.first().cloned()
}

/// What a token says of itself. Not verified; only used to ask less often.
struct Claims {
    audiences: Vec<String>,
    expires_at_ms: i64,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(serde::Deserialize)]
struct RawClaims {
    aud: OneOrMany,
    exp: i64,
}

impl Claims {
    fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let raw: RawClaims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let audiences = match raw.aud {
            OneOrMany::One(audience) => vec![audience],
            OneOrMany::Many(audiences) => audiences,
        };
        Some(Claims { audiences, expires_at_ms: raw.exp.saturating_mul(1_000) })
    }
}
