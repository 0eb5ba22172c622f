//! Browser sessions. The cookie holds 256 random bits, the store their hash; the CSRF token is derived from the cookie's value, so it is bound to the session and needs no store.

use ers_store::{SecretHash, Session};

use crate::secret::{Secret, equal};

/// Ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without a request for so long it ends; 15 to 60 minutes.
    pub idle_ms: i64,
    /// It ends so long after the log-in whatever happens; 12 hours.
    pub absolute_ms: i64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits { idle_ms: 60 * 60_000, absolute_ms: 12 * 3_600_000 }
    }
}

/// A use is noted at most so often, to keep requests from writing.
pub const TOUCH_EVERY_MS: i64 = 60_000;

const CSRF_PURPOSE: &str = "ers/csrf/v1";

/// The cookie's value.
pub struct SessionSecret(Secret);

impl SessionSecret {
    pub fn random() -> Self {
        SessionSecret(Secret::random())
    }

    pub fn parse(cookie: &str) -> Option<Self> {
        Secret::parse(cookie).map(SessionSecret)
    }

    /// For the `Set-Cookie` header, and nothing else.
    pub fn reveal(&self) -> String {
        self.0.reveal()
    }

    pub fn key(&self) -> SecretHash {
        self.0.hash()
    }

    pub fn csrf_token(&self) -> String {
        self.0.derive(CSRF_PURPOSE)
    }

    pub fn csrf_matches(&self, presented: &str) -> bool {
        equal(self.csrf_token().as_bytes(), presented.as_bytes())
    }
}

/// When the session ends if it is not used again.
pub fn ends_at_ms(session: &Session, limits: SessionLimits) -> i64 {
    session.expires_at_ms.min(session.last_seen_at_ms.saturating_add(limits.idle_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_csrf_token_belongs_to_one_session() {
        let (one, other) = (SessionSecret::random(), SessionSecret::random());
        assert!(one.csrf_matches(&one.csrf_token()));
        assert!(!one.csrf_matches(&other.csrf_token()));
        assert!(!one.csrf_matches(""));
        let again = SessionSecret::parse(&one.reveal()).unwrap();
        assert!(again.csrf_matches(&one.csrf_token()), "it survives a restart of the server");
    }

    #[test]
    fn a_session_ends_by_idleness_or_by_age_whichever_is_first() {
        let limits = SessionLimits { idle_ms: 100, absolute_ms: 1_000 };
        let mut session = Session {
            key: SecretHash([0; 32]),
            user: uuid::Uuid::nil(),
            created_at_ms: 0,
            last_seen_at_ms: 50,
            expires_at_ms: 1_000,
            source_ip: String::new(),
        };
        assert_eq!(ends_at_ms(&session, limits), 150);
        session.last_seen_at_ms = 990;
        assert_eq!(ends_at_ms(&session, limits), 1_000);
    }
}
