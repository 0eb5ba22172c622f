//! The certificate that is presented, behind a lock, so that it can be swapped while connections come in.

use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Material;

/// What is presented now.
pub struct CurrentCertificate(RwLock<Arc<Material>>);

impl CurrentCertificate {
    pub fn new(material: Material) -> Arc<Self> {
        Arc::new(CurrentCertificate(RwLock::new(Arc::new(material))))
    }

    pub fn get(&self) -> Arc<Material> {
        self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Connections that are open keep theirs. Answers whether anything changed.
    pub fn set(&self, material: Material) -> bool {
        let mut current = self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if current.key.cert == material.key.cert && current.authorities == material.authorities {
            return false;
        }
        *current = Arc::new(material);
        true
    }
}

impl std::fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurrentCertificate(..)")
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().key.clone())
    }
}

/// TLS 1.2 and 1.3, no client certificates; actix-web adds the protocols of HTTP.
pub fn server_config(certificate: Arc<CurrentCertificate>) -> ServerConfig {
    ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificate)
}
