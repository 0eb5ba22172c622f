//! The one door: every credential is judged here.

use std::sync::Arc;

use ers_model::Clock;
use ers_store::{AuditContext, NewSession, Outcome, SecretHash, Store, StoreError, TenantId, User};

use crate::error::AuthError;
use crate::identity::{AgentIdentity, Principal};
use crate::kubernetes::KubernetesAuthenticator;
use crate::limiter::LoginLimiter;
use crate::password::{self, Hasher};
use crate::session::{SessionLimits, SessionSecret, TOUCH_EVERY_MS, ends_at_ms};
use crate::token::{PresentedToken, TokenKind};

/// A log-in as it was asked for. No `Debug`: it holds a password.
pub struct Login<'a> {
    pub user_name: &'a str,
    pub password: &'a str,
    pub source_ip: &'a str,
}

/// A session that is valid now. No `Debug`: it holds the CSRF token.
pub struct LoggedIn {
    pub user: User,
    pub csrf_token: String,
    pub ends_at_ms: i64,
    pub session: SecretHash,
}

impl LoggedIn {
    pub fn principal(&self) -> Principal {
        Principal::User { id: self.user.id, name: self.user.name.clone(), role: self.user.role, session: self.session }
    }
}

pub struct Authenticator {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    tenant: TenantId,
    limits: SessionLimits,
    hasher: Hasher,
    limiter: LoginLimiter,
    kubernetes: Option<KubernetesAuthenticator>,
}

impl Authenticator {
    /// `kubernetes` is none where there is no API server to ask.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        tenant: TenantId,
        limits: SessionLimits,
        hasher: Hasher,
        kubernetes: Option<KubernetesAuthenticator>,
    ) -> Self {
        Authenticator { store, clock, tenant, limits, hasher, limiter: LoginLimiter::default(), kubernetes }
    }

    /// Judges user name and password and opens a session; audited either way. The secret is for the cookie.
    pub async fn log_in(&self, audit: &AuditContext, login: Login<'_>) -> Result<(LoggedIn, SessionSecret), AuthError> {
        let now_ms = self.clock.now_ms();
        self.limiter
            .begin(login.user_name, login.source_ip, now_ms)
            .map_err(|retry_after_seconds| AuthError::RateLimited { retry_after_seconds })?;
        let user = self.store.user_by_name(self.tenant, login.user_name).await.map_err(AuthError::Store)?;
        let hash = user.as_ref().map(|user| user.password_hash.as_str());
        let fits = self.hasher.verify(hash, login.password).await.map_err(AuthError::Password)?;
        let Some(user) = user.filter(|_| fits) else {
            // The name is not written down: now and then somebody types the password there.
            self.store
                .record(audit, "LogIn", "session", Outcome::Denied, serde_json::json!({"reason": "InvalidCredentials"}))
                .await
                .map_err(AuthError::Store)?;
            return Err(AuthError::InvalidCredentials);
        };
        self.limiter.forgive(login.user_name, login.source_ip);
        let secret = SessionSecret::random();
        let expires_at_ms = now_ms.saturating_add(self.limits.absolute_ms);
        let mut audit = audit.clone();
        audit.actor = ers_store::Actor::new("User", &user.name);
        let new = NewSession { key: secret.key(), user: user.id, expires_at_ms };
        let session = self.store.create_session(&audit, new).await.map_err(AuthError::Store)?;
        let logged_in = LoggedIn {
            user,
            csrf_token: secret.csrf_token(),
            ends_at_ms: ends_at_ms(&session, self.limits),
            session: session.key,
        };
        Ok((logged_in, secret))
    }

    /// Judges a session cookie and notes the use.
    pub async fn session(&self, cookie: &SessionSecret) -> Result<LoggedIn, AuthError> {
        let key = cookie.key();
        let now_ms = self.clock.now_ms();
        let mut session = self.live_session(key, now_ms).await?;
        let user = self.store.user(self.tenant, session.user).await.map_err(AuthError::Store)?;
        let user = user.ok_or(AuthError::Unauthenticated("the session's user is gone"))?;
        if now_ms - session.last_seen_at_ms >= TOUCH_EVERY_MS {
            session.last_seen_at_ms = now_ms;
            if let Err(error) = self.store.touch_session(self.tenant, key, now_ms).await {
                // A full disk must not throw out whoever wants to look at why.
                tracing::warn!(error = &error as &dyn std::error::Error, "the use of a session could not be noted");
            }
        }
        Ok(LoggedIn {
            user,
            csrf_token: cookie.csrf_token(),
            ends_at_ms: ends_at_ms(&session, self.limits),
            session: key,
        })
    }

    /// Whether a session is still valid; does not count as a use.
    pub async fn session_is_live(&self, key: SecretHash) -> Result<bool, AuthError> {
        match self.live_session(key, self.clock.now_ms()).await {
            Ok(_) => Ok(true),
            Err(AuthError::Unauthenticated(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn live_session(&self, key: SecretHash, now_ms: i64) -> Result<ers_store::Session, AuthError> {
        let session = self.store.session(self.tenant, key).await.map_err(AuthError::Store)?;
        session
            .filter(|session| now_ms < ends_at_ms(session, self.limits))
            .ok_or(AuthError::Unauthenticated("the session has ended"))
    }

    /// Judges the text after `Authorization: Bearer`.
    pub async fn bearer(&self, text: &str) -> Result<Principal, AuthError> {
        let Some(presented) = PresentedToken::parse(text) else {
            return match &self.kubernetes {
                Some(kubernetes) => kubernetes.authenticate(text).await,
                None => Err(AuthError::Unauthenticated("the token is not one of this server's")),
            };
        };
        match presented.kind {
            TokenKind::Api => self.api_token(&presented).await,
            TokenKind::Agent => self.agent_key(&presented).await,
        }
    }

    async fn api_token(&self, presented: &PresentedToken) -> Result<Principal, AuthError> {
        let now_ms = self.clock.now_ms();
        let found = self.store.token(self.tenant, presented.id).await.map_err(AuthError::Store)?;
        let token = found
            .filter(|token| presented.fits(&token.secret))
            .ok_or(AuthError::Unauthenticated("the token is unknown or was revoked"))?;
        if token.expires_at_ms.is_some_and(|end| end <= now_ms) {
            return Err(AuthError::Unauthenticated("the token has expired"));
        }
        if token.last_used_at_ms.is_none_or(|last| now_ms - last >= TOUCH_EVERY_MS)
            && let Err(error) = self.store.touch_token(self.tenant, token.id, now_ms).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the use of a token could not be noted");
        }
        Ok(Principal::ApiToken { id: token.id, name: token.name, scopes: token.scopes })
    }

    async fn agent_key(&self, presented: &PresentedToken) -> Result<Principal, AuthError> {
        let found = self.store.agent_key(self.tenant, presented.id).await.map_err(AuthError::Store)?;
        let key = found
            .filter(|key| presented.fits(&key.secret))
            .ok_or(AuthError::Unauthenticated("the agent's key is unknown or was revoked"))?;
        Ok(Principal::Agent(AgentIdentity::EnrolledKey { id: key.id, target: key.target, node: key.node }))
    }

    /// Sets a new password for whoever knows the present one; the caller's session stays, the others end.
    pub async fn change_password(
        &self,
        audit: &AuditContext,
        user: uuid::Uuid,
        keep: SecretHash,
        current: &str,
        new: &str,
    ) -> Result<(), AuthError> {
        let found = self.store.user(self.tenant, user).await.map_err(AuthError::Store)?;
        let user = found.ok_or(AuthError::Unauthenticated("the session's user is gone"))?;
        let now_ms = self.clock.now_ms();
        // The same brake as at the log-in: a stolen session must not be a way to guess the password.
        self.limiter
            .begin(&user.name, &audit.source_ip, now_ms)
            .map_err(|retry_after_seconds| AuthError::RateLimited { retry_after_seconds })?;
        if !self.hasher.verify(Some(&user.password_hash), current).await.map_err(AuthError::Password)? {
            let resource = format!("user/{}", user.id);
            let detail = serde_json::json!({"reason": "InvalidCredentials"});
            self.store
                .record(audit, "ChangePassword", &resource, Outcome::Denied, detail)
                .await
                .map_err(AuthError::Store)?;
            return Err(AuthError::InvalidCredentials);
        }
        self.limiter.forgive(&user.name, &audit.source_ip);
        password::check(&user.name, new).map_err(AuthError::Password)?;
        let hash = self.hasher.hash(new).await.map_err(AuthError::Password)?;
        let changed = self.store.set_password(audit, user.id, &hash, Some(keep)).await.map_err(AuthError::Store)?;
        if changed { Ok(()) } else { Err(AuthError::Unauthenticated("the session's user is gone")) }
    }

    /// Sets a password without knowing the present one and ends all sessions: for whoever holds the machine.
    /// [`StoreError`] only: the rules are applied by the caller.
    pub async fn reset_password(&self, audit: &AuditContext, user: uuid::Uuid, new: &str) -> Result<bool, AuthError> {
        let hash = self.hasher.hash(new).await.map_err(AuthError::Password)?;
        let changed: Result<bool, StoreError> = self.store.set_password(audit, user, &hash, None).await;
        changed.map_err(AuthError::Store)
    }

    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    pub fn limits(&self) -> SessionLimits {
        self.limits
    }
}
