//! The text of API tokens and agent keys: `<prefix>_<id>_<secret>`, the id in 32 hex digits, the secret in 43 characters of base64. The prefix lets secret scanners find them.

use ers_store::SecretHash;
use uuid::Uuid;

use crate::secret::{Secret, equal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Api,
    Agent,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            TokenKind::Api => "ers",
            TokenKind::Agent => "ersa",
        }
    }
}

/// A token as presented; not yet known to exist.
pub struct PresentedToken {
    pub kind: TokenKind,
    pub id: Uuid,
    secret: Secret,
}

impl PresentedToken {
    /// A new one, for a new row.
    pub fn random(kind: TokenKind) -> Self {
        PresentedToken { kind, id: Uuid::now_v7(), secret: Secret::random() }
    }

    /// None if the text is no token of ours (it may be one of Kubernetes').
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '_');
        let (prefix, id, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let kind = [TokenKind::Api, TokenKind::Agent].into_iter().find(|kind| kind.prefix() == prefix)?;
        if id.len() != 32 {
            return None;
        }
        Some(PresentedToken { kind, id: Uuid::try_parse(id).ok()?, secret: Secret::parse(secret)? })
    }

    /// Shown once, to whoever asked for it.
    pub fn reveal(&self) -> String {
        format!("{}_{}_{}", self.kind.prefix(), self.id.simple(), self.secret.reveal())
    }

    pub fn hash(&self) -> SecretHash {
        self.secret.hash()
    }

    pub fn fits(&self, stored: &SecretHash) -> bool {
        equal(&self.hash().0, &stored.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_form() {
        for kind in [TokenKind::Api, TokenKind::Agent] {
            // Many, since the secret's alphabet contains the separator.
            for _ in 0..200 {
                let token = PresentedToken::random(kind);
                let again = PresentedToken::parse(&token.reveal()).unwrap();
                assert_eq!((again.kind, again.id), (kind, token.id));
                assert!(again.fits(&token.hash()));
            }
        }
    }

    #[test]
    fn foreign_texts_are_no_tokens() {
        let good = PresentedToken::random(TokenKind::Api).reveal();
        for wrong in
            ["", "ers", "ers__", "ers_x_y", "eyJhbGciOi.eyJhdWQi.sig", &good[..good.len() - 1], &format!("x{good}")]
        {
            assert!(PresentedToken::parse(wrong).is_none(), "{wrong}");
        }
    }
}
