//! Passwords: argon2id with 19 MiB and two passes (OWASP's minimum; 35 ms here), and the rules for new ones.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::Arc;
use tokio::sync::Semaphore;

use crate::secret::Secret;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Shortest password, in characters. Length beats character classes (NIST SP 800-63B).
pub const MIN_CHARACTERS: usize = 12;
/// Longest password, in bytes: bounds the work that a stranger can ask for.
pub const MAX_BYTES: usize = 1_024;
/// Hashes computed at the same time; each takes 19 MiB.
const CONCURRENT: usize = 2;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("the password has {0} characters, at least {MIN_CHARACTERS} are needed")]
    TooShort(usize),
    #[error("the password is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the password repeats a few characters; use more different ones")]
    TooUniform,
    #[error("the password contains the user name")]
    ContainsUserName,
    #[error("the password could not be hashed")]
    Hash,
}

/// The rules for a new password.
pub fn check(user_name: &str, password: &str) -> Result<(), PasswordError> {
    let characters = password.chars().count();
    if characters < MIN_CHARACTERS {
        return Err(PasswordError::TooShort(characters));
    }
    if password.len() > MAX_BYTES {
        return Err(PasswordError::TooLong);
    }
    let distinct: std::collections::BTreeSet<char> = password.chars().collect();
    if distinct.len() < 5 {
        return Err(PasswordError::TooUniform);
    }
    if user_name.len() >= 4 && password.to_lowercase().contains(&user_name.to_lowercase()) {
        return Err(PasswordError::ContainsUserName);
    }
    Ok(())
}

/// A password that a person can copy: 160 random bits.
pub fn generate() -> String {
    Secret::random().reveal().chars().take(27).collect()
}

/// Computes and compares hashes away from the async threads, a few at a time.
#[derive(Clone)]
pub struct Hasher {
    permits: Arc<Semaphore>,
    /// Hash of a password that nobody knows: compared with when there is no such user, so that both cases take the same time.
    nobody: Arc<str>,
}

impl Hasher {
    /// Fails only if hashing itself does not work on this machine.
    pub async fn new() -> Result<Self, PasswordError> {
        let nobody = tokio::task::spawn_blocking(|| hash_now(&generate())).await.map_err(|_| PasswordError::Hash)??;
        Ok(Hasher { permits: Arc::new(Semaphore::new(CONCURRENT)), nobody: nobody.into() })
    }

    /// The PHC string of a password; the rules are not applied here.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let _permit = self.permits.acquire().await.map_err(|_| PasswordError::Hash)?;
        let password = password.to_owned();
        tokio::task::spawn_blocking(move || hash_now(&password)).await.map_err(|_| PasswordError::Hash)?
    }

    /// Whether the password fits the hash. Without a hash the answer is no, after the same work.
    pub async fn verify(&self, hash: Option<&str>, password: &str) -> Result<bool, PasswordError> {
        if password.len() > MAX_BYTES {
            return Ok(false);
        }
        let _permit = self.permits.acquire().await.map_err(|_| PasswordError::Hash)?;
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let password = password.to_owned();
        let fits = tokio::task::spawn_blocking(move || verify_now(&hash, &password))
            .await
            .map_err(|_| PasswordError::Hash)??;
        Ok(fits && known)
    }
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let parameters = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Hash)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters))
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    let mut salt = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| PasswordError::Hash)?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| PasswordError::Hash)?;
    let hash = argon2()?.hash_password(password.as_bytes(), &salt).map_err(|_| PasswordError::Hash)?;
    Ok(hash.to_string())
}

fn verify_now(hash: &str, password: &str) -> Result<bool, PasswordError> {
    let parsed = PasswordHash::new(hash).map_err(|_| PasswordError::Hash)?;
    // The parameters come from the hash itself, so that older hashes stay valid.
    Ok(argon2()?.verify_password(password.as_bytes(), &parsed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn verdict(password: &str, expected: Result<(), PasswordError>) {
        assert_eq!(check("admin", password), expected, "{password}");
    }

    #[test]
    fn new_passwords_are_judged_by_length_and_variety() {
        verdict("", Err(PasswordError::TooShort(0)));
        verdict("elevenchars", Err(PasswordError::TooShort(11)));
        verdict("a phrase of words", Ok(()));
        verdict("zwölfzeichen", Ok(()));
        verdict("aaaaaaaaaaaaaaaa", Err(PasswordError::TooUniform));
        verdict("my Admin password", Err(PasswordError::ContainsUserName));
        verdict(&"0123456789".repeat(200), Err(PasswordError::TooLong));
        assert_eq!(check("admin", &generate()), Ok(()));
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_and_no_other() {
        let hasher = Hasher::new().await.unwrap();
        let hash = hasher.hash("correct horse battery").await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.verify(Some(&hash), "correct horse battery").await.unwrap());
        assert!(!hasher.verify(Some(&hash), "correct horse batterz").await.unwrap());
        assert!(!hasher.verify(None, "correct horse battery").await.unwrap());
        assert_eq!(hasher.verify(Some("nonsense"), "x").await, Err(PasswordError::Hash));
    }
}
