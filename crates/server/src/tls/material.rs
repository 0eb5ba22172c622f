//! Certificates and keys on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Material;
use super::authority::{STATE_VERSION, TlsState};
use crate::private_file;

/// Larger files hold no certificates.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge { path: PathBuf },
    /// Removing the file makes the server start with a new authority.
    #[error("{path} cannot be read as the server's certificates: {reason}")]
    Corrupt { path: PathBuf, reason: String },
    #[error("{what} holds no usable certificate and key: {reason}")]
    Unusable { what: String, reason: String },
    #[error("a certificate could not be made")]
    Make(#[source] rcgen::Error),
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, MaterialError> {
    let failed = |source| MaterialError::Read { path: path.to_path_buf(), source };
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => Err(MaterialError::TooLarge { path: path.to_path_buf() }),
        Ok(_) => fs::read(path).map(Some).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

pub fn read_state(path: &Path) -> Result<Option<TlsState>, MaterialError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let corrupt = |reason: String| MaterialError::Corrupt { path: path.to_path_buf(), reason };
    // The parser's message may quote the file, which holds keys: only the place is told.
    let state: TlsState = serde_json::from_slice(&bytes)
        .map_err(|error| corrupt(format!("not understood at line {}, column {}", error.line(), error.column())))?;
    if state.version != STATE_VERSION {
        return Err(corrupt(format!("version {}, and this program knows version {STATE_VERSION}", state.version)));
    }
    Ok(Some(state))
}

pub fn write_state(path: &Path, state: &TlsState) -> Result<(), MaterialError> {
    let text = serde_json::to_vec_pretty(state).expect("a state is made of strings and numbers");
    private_file::write(path, &text).map_err(|source| MaterialError::Write { path: path.to_path_buf(), source })
}

/// A key pair that can be presented.
pub fn certified_key(certificate: &[u8], key: &[u8], what: &str) -> Result<CertifiedKey, MaterialError> {
    let unusable = |reason: String| MaterialError::Unusable { what: what.to_owned(), reason };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(format!("the certificate is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(unusable("no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| unusable("no private key in PEM".to_owned()))?;
    let key = any_supported_type(&key).map_err(|_| unusable("a private key of an unknown kind".to_owned()))?;
    let pair = CertifiedKey::new(chain, key);
    pair.keys_match().map_err(|_| unusable("certificate and key do not belong together".to_owned()))?;
    Ok(pair)
}

/// `tls.crt`, `tls.key`, and `ca.crt` if there is one; without it callers get the chain itself to verify with.
pub fn load_folder(folder: &Path) -> Result<Material, MaterialError> {
    let file = |name: &str| {
        let path = folder.join(name);
        read(&path)?.ok_or_else(|| MaterialError::Read { path, source: io::ErrorKind::NotFound.into() })
    };
    let certificate = file("tls.crt")?;
    let key = certified_key(&certificate, &file("tls.key")?, &folder.display().to_string())?;
    let authorities = read(&folder.join("ca.crt"))?.unwrap_or(certificate);
    let authorities = String::from_utf8(authorities).map_err(|_| MaterialError::Unusable {
        what: folder.display().to_string(),
        reason: "ca.crt is no PEM".to_owned(),
    })?;
    Ok(Material { key: Arc::new(key), authorities })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::authority::up_to_date;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_state_survives_its_file_and_only_we_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.json");
        assert!(read_state(&path).unwrap().is_none());
        let state = up_to_date(None, &["localhost".to_owned()], 1_700_000_000_000).unwrap().state;
        write_state(&path, &state).unwrap();
        write_state(&path, &state).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = read_state(&path).unwrap().unwrap();
        assert_eq!(again.leaf.certificate, state.leaf.certificate);
        certified_key(again.leaf.certificate.as_bytes(), again.leaf.key.as_bytes(), "test").unwrap();
    }

    #[test]
    fn a_damaged_state_is_named_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.json");
        fs::write(&path, r#"{"version": 1, "key": "secret-key"}"#).unwrap();
        let Err(error) = read_state(&path) else { panic!("it was read") };
        let text = error.to_string();
        assert!(text.contains("tls.json") && text.contains("line 1") && !text.contains("secret-key"), "{text}");
    }

    #[test]
    fn a_folder_with_a_foreign_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let make = || up_to_date(None, &["localhost".to_owned()], 1_700_000_000_000).unwrap().state.leaf;
        let (one, other) = (make(), make());
        fs::write(folder.path().join("tls.crt"), &one.certificate).unwrap();
        let Err(missing) = load_folder(folder.path()) else { panic!("no key") };
        assert!(missing.to_string().contains("tls.key"), "{missing}");
        fs::write(folder.path().join("tls.key"), &other.key).unwrap();
        let Err(foreign) = load_folder(folder.path()) else { panic!("a foreign key") };
        assert!(foreign.to_string().contains("do not belong together"), "{foreign}");
        fs::write(folder.path().join("tls.key"), &one.key).unwrap();
        let good = load_folder(folder.path()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(good.authorities, one.certificate);
    }
}
