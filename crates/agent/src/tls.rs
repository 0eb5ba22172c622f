//! Whom a client trusts: authorities from a PEM file that may appear late and may change under us.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the authority's file {} is not there yet: the server writes it when it has started", path.display())]
    NotYet { path: PathBuf },
    #[error("cannot read the authority's file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no PEM file of certificates", path.display())]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{} has no usable certificate", path.display())]
    Empty { path: PathBuf },
    #[error("the TLS versions are not supported by the provider")]
    Provider(#[source] rustls::Error),
    #[error("the authorities of {} cannot be used", path.display())]
    Verifier {
        path: PathBuf,
        #[source]
        source: rustls::client::VerifierBuilderError,
    },
}

/// How a client sets up TLS. Clones share what was loaded.
#[derive(Clone, Debug)]
pub struct TlsSettings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trust: Trust,
    loaded: Mutex<Option<(FileState, Arc<ClientConfig>)>>,
}

#[derive(Debug)]
enum Trust {
    Authority(PathBuf),
    Anyone,
}

/// Enough to see that a file was replaced: projected volumes swap a link, so the inode changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FileState {
    inode: u64,
    modified: i64,
    bytes: u64,
}

impl TlsSettings {
    /// Verifies with the authorities in a PEM file, read again when it changes.
    pub fn authority(file: &Path) -> Self {
        TlsSettings(Arc::new(Inner { trust: Trust::Authority(file.to_owned()), loaded: Mutex::default() }))
    }

    /// Does not verify who answers: for kubelets with self-signed certificates, where the target says so.
    pub fn insecure() -> Self {
        TlsSettings(Arc::new(Inner { trust: Trust::Anyone, loaded: Mutex::default() }))
    }

    /// The current settings; the same `Arc` as long as nothing changed.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match &self.0.trust {
            Trust::Authority(path) => file_state(path)?,
            Trust::Anyone => FileState::default(),
        };
        if let Some((of, config)) = &*loaded
            && *of == state
        {
            return Ok(config.clone());
        }
        let config = Arc::new(match &self.0.trust {
            Trust::Authority(path) => trusting(path)?,
            Trust::Anyone => trusting_anyone()?,
        });
        *loaded = Some((state, config.clone()));
        Ok(config)
    }
}

fn file_state(path: &Path) -> Result<FileState, TlsError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(FileState {
            inode: metadata.ino(),
            modified: metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()),
            bytes: metadata.len(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(TlsError::NotYet { path: path.to_owned() }),
        Err(source) => Err(TlsError::Read { path: path.to_owned(), source }),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn trusting(path: &Path) -> Result<ClientConfig, TlsError> {
    let pem = |source| TlsError::Pem { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(pem)? {
        roots.add_parsable_certificates([certificate.map_err(pem)?]);
    }
    if roots.is_empty() {
        return Err(TlsError::Empty { path: path.to_owned() });
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|source| TlsError::Verifier { path: path.to_owned(), source })?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    Ok(builder.with_webpki_verifier(verifier).with_no_client_auth())
}

fn trusting_anyone() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider()))).with_no_client_auth())
}

/// Accepts every certificate; the handshake's signature must still be made with its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate").cert.pem()
    }

    #[test]
    fn an_authority_may_come_late_and_change() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("ca.crt");
        let settings = TlsSettings::authority(&file);
        assert!(matches!(settings.config(), Err(TlsError::NotYet { .. })));
        std::fs::write(&file, certificate()).expect("write");
        let first = settings.config().expect("loaded");
        assert!(Arc::ptr_eq(&first, &settings.config().expect("kept")));
        let other = folder.path().join("other");
        std::fs::write(&other, certificate()).expect("write");
        std::fs::rename(&other, &file).expect("rename");
        assert!(!Arc::ptr_eq(&first, &settings.config().expect("loaded anew")));
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, "nothing").expect("write");
        assert!(matches!(TlsSettings::authority(&file).config(), Err(TlsError::Empty { .. })));
    }
}
