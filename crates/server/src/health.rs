//! `/livez` and `/readyz`, and the client behind `ers-server health`.

use std::time::Duration;

use actix_web::HttpResponse;
use anyhow::{Context as _, bail};

use crate::http::{Answer, ApiError, Call};

/// The process answers: nothing more is promised.
pub async fn live(_call: Call) -> Answer {
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok"))
}

/// `ok`, or 503 with one reason a line.
pub async fn ready(call: Call) -> Answer {
    let reasons = call.app.readiness.reasons();
    if reasons.is_empty() {
        return Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok"));
    }
    Err(ApiError::unavailable("NotReady", reasons.join("\n")))
}

/// Asks a server on this machine; `Ok` if it is ready.
pub async fn ask(url: &str, authorities: &str) -> anyhow::Result<()> {
    let mut client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy();
    client = client.tls_certs_only(
        reqwest::Certificate::from_pem_bundle(authorities.as_bytes()).context("the authority is no PEM")?,
    );
    let client = client.build().context("no client")?;
    let response =
        client.get(format!("{url}/readyz")).send().await.with_context(|| format!("{url} does not answer"))?;
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    if !status.is_success() {
        bail!("{status}: {}", text.trim());
    }
    Ok(())
}
