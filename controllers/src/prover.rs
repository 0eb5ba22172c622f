//! The proof that a server answers: one question over TLS, trusting only the authority that the server published.

use std::time::Duration;

use futures::future::BoxFuture;

/// Longest wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a refusal that are repeated in a condition.
const LONGEST_REASON: usize = 200;

/// Why there is no proof yet, in words for a condition's message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unproven(pub String);

/// Asks a server whether it is ready.
pub trait Prover: Send + Sync {
    /// `url` is the server's base address, `authority` the PEM text that its certificate must be signed by.
    fn prove<'a>(&'a self, url: &'a str, authority: &'a str) -> BoxFuture<'a, Result<(), Unproven>>;
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpsProver;

impl Prover for HttpsProver {
    fn prove<'a>(&'a self, url: &'a str, authority: &'a str) -> BoxFuture<'a, Result<(), Unproven>> {
        Box::pin(ask(url, authority))
    }
}

async fn ask(url: &str, authority: &str) -> Result<(), Unproven> {
    let trusted = reqwest::Certificate::from_pem_bundle(authority.as_bytes())
        .map_err(|_| Unproven("the published authority of the server cannot be read".to_owned()))?;
    let client = reqwest::Client::builder()
        .tls_certs_only(trusted)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| Unproven(format!("no TLS client could be made: {}", chain(&error))))?;
    let answer = client
        .get(format!("{url}/readyz"))
        .send()
        .await
        .map_err(|error| Unproven(format!("the server does not answer: {}", chain(&error.without_url()))))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    // The limit is on what is kept: the body is read by pieces.
    let mut reason = Vec::new();
    let mut answer = answer;
    while reason.len() < LONGEST_REASON {
        match answer.chunk().await {
            Ok(Some(chunk)) => reason.extend_from_slice(&chunk[..chunk.len().min(LONGEST_REASON)]),
            Ok(None) | Err(_) => break,
        }
    }
    reason.truncate(LONGEST_REASON);
    Err(Unproven(format!("the server is not ready ({}): {}", status.as_u16(), String::from_utf8_lossy(&reason).trim())))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
