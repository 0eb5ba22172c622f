//! Random secrets and their hashes.

use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ers_store::SecretHash;

/// 256 random bits. No `Debug`, no `Display`: it leaves by [`Secret::reveal`] only.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    pub fn random() -> Self {
        let mut bytes = [0_u8; 32];
        rand::fill(&mut bytes).expect("the operating system has randomness");
        Secret(bytes)
    }

    /// 43 characters of URL-safe base64.
    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The reverse of [`Secret::reveal`].
    pub fn parse(text: &str) -> Option<Self> {
        // 43 characters are 32 bytes; anything else is refused before it is decoded.
        if text.len() != 43 {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Secret)
    }

    pub fn hash(&self) -> SecretHash {
        sha256(&self.0)
    }

    /// A value bound to this secret that does not give it away.
    pub fn derive(&self, purpose: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, purpose.as_bytes()))
    }
}

pub fn sha256(bytes: &[u8]) -> SecretHash {
    let mut hash = [0_u8; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    SecretHash(hash)
}

/// Equality in a time that does not depend on where the two differ.
pub fn equal(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_its_text_form_and_nothing_else_does() {
        let secret = Secret::random();
        let text = secret.reveal();
        assert_eq!(Secret::parse(&text).unwrap().hash(), secret.hash());
        for wrong in ["", "abc", &text[1..], &format!("{text}="), &"!".repeat(43)] {
            assert!(Secret::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn derived_values_differ_by_purpose_and_secret() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_eq!(one.derive("csrf"), one.derive("csrf"));
        assert_ne!(one.derive("csrf"), one.derive("else"));
        assert_ne!(one.derive("csrf"), other.derive("csrf"));
    }
}
