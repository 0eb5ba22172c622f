//! Where secrets come from: Kubernetes by named `get`, or a folder. Values live in [`Secret`], which nothing can print.

use std::future::Future;
use std::pin::Pin;

use zeroize::Zeroizing;

mod folder;
mod kubernetes;

pub use folder::FolderSecrets;
pub use kubernetes::KubeSecrets;

/// Most bytes of one value; Kubernetes holds no more in a whole Secret.
pub const MAX_SECRET_BYTES: usize = 1 << 20;

/// A secret value. Has no `Debug`, `Display`, `Clone` or `Serialize`, and is overwritten when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(Zeroizing::new(bytes))
    }

    /// The bytes. Hand them on to what needs them, and to nothing that prints.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text; `None` if they are no UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a secret could not be read. Holds names, never values.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Not there: it may come later.
    #[error("Secret {name} does not exist")]
    NotFound { name: String },
    /// The Secret is there, the key is not.
    #[error("Secret {name} has no key {key}")]
    KeyNotFound { name: String, key: String },
    #[error("Secret {name} is not permitted to be read")]
    Forbidden { name: String },
    #[error("key {key} of Secret {name} has more than {MAX_SECRET_BYTES} bytes")]
    TooLarge { name: String, key: String },
    #[error("{name:?} is no name of a Secret, or {key:?} no key of one")]
    BadName { name: String, key: String },
    #[error("failed to ask the API server for Secret {name}")]
    Unreachable {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("failed to read key {key} of Secret {name}")]
    Read {
        name: String,
        key: String,
        #[source]
        source: std::io::Error,
    },
}

impl SecretError {
    /// Whether it is not there, in contrast to: whether it could not be found out.
    pub fn is_not_found(&self) -> bool {
        matches!(self, SecretError::NotFound { .. } | SecretError::KeyNotFound { .. })
    }
}

/// What [`SecretSource::read`] gives.
pub type ReadSecret<'a> = Pin<Box<dyn Future<Output = Result<Secret, SecretError>> + Send + 'a>>;

/// Where secrets come from.
pub trait SecretSource: Send + Sync {
    /// One key of one Secret, read anew each time: rotation is noticed by whoever asks again.
    fn read<'a>(&'a self, name: &'a str, key: &'a str) -> ReadSecret<'a>;
}

/// Whether the two can name a Secret and its key: no separators of paths, not empty, not hidden, within Kubernetes' lengths.
fn is_good_name(name: &str, key: &str) -> bool {
    let name_is_good = (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let key_is_good = (1..=253).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && key != "."
        && !key.starts_with("..");
    name_is_good && key_is_good
}
