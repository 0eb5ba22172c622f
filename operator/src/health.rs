//! `ers-operator health`: for exec probes and for people.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::arguments::Health;

pub fn health(arguments: &Health) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(ask(arguments))
}

async fn ask(arguments: &Health) -> Result<()> {
    let url = format!("https://{}/readyz", arguments.address);
    // The certificate is for the Service's name, and the question goes to this very machine.
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .no_proxy()
        .timeout(Duration::from_secs(3))
        .build()
        .context("making a client")?;
    let answer = client.get(&url).send().await.with_context(|| format!("asking {url}"))?;
    let status = answer.status();
    if !status.is_success() {
        bail!("not ready ({}): {}", status.as_u16(), answer.text().await.unwrap_or_default().trim());
    }
    println!("ok");
    Ok(())
}
