//! TLS for both listeners: a certificate of our own making, or one from a mounted Secret; either is swapped without a restart.

mod authority;
mod material;
mod resolver;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use authority::{Authority, Leaf, Made, TlsState};
pub use material::{MaterialError, load_folder};
pub use resolver::{CurrentCertificate, server_config};

use ers_model::Clock;
use rustls::sign::CertifiedKey;

/// Where the certificate comes from.
pub enum CertificateSource {
    /// Made here and kept in this file.
    Own { file: PathBuf, names: Vec<String> },
    /// `tls.crt`, `tls.key` and perhaps `ca.crt`, replaced under us when the Secret is.
    Folder(PathBuf),
}

/// What is presented now, and what callers verify it with.
pub struct Material {
    pub key: Arc<CertifiedKey>,
    /// PEM, one or more certificates.
    pub authorities: String,
}

impl CertificateSource {
    /// Reads or makes the certificate that is right now. Writes the file only if something new was made.
    pub fn current(&self, clock: &dyn Clock) -> Result<Material, MaterialError> {
        match self {
            CertificateSource::Folder(folder) => load_folder(folder),
            CertificateSource::Own { file, names } => own(file, names, clock.now_ms()),
        }
    }
}

fn own(file: &Path, names: &[String], now_ms: i64) -> Result<Material, MaterialError> {
    let known = material::read_state(file)?;
    let Made { state, changed } = authority::up_to_date(known, names, now_ms)?;
    if changed {
        material::write_state(file, &state)?;
        tracing::info!(names = ?names, not_after_ms = state.leaf.not_after_ms, authorities = state.authorities.len(), "certificate made");
    }
    let key = material::certified_key(state.leaf.certificate.as_bytes(), state.leaf.key.as_bytes(), "own certificate")?;
    Ok(Material { key: Arc::new(key), authorities: state.bundle() })
}

/// The authorities of a server with a certificate of its own making, from its file; for a client on the same machine.
pub fn own_authorities(file: &Path) -> Result<String, MaterialError> {
    let state = material::read_state(file)?;
    let missing = || MaterialError::Read { path: file.to_path_buf(), source: std::io::ErrorKind::NotFound.into() };
    Ok(state.ok_or_else(missing)?.bundle())
}
