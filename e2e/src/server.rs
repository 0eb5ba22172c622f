//! A policy's server as its users see it: HTTPS to the Service's address, verified with the authority that it published.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::{COOKIE, SET_COOKIE};
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::cluster::Cluster;

pub struct ServerApi {
    pub http: Client,
    pub base: String,
    cookie: String,
    csrf: String,
}

/// `(labels, value)` of each series of an instant vector.
pub type Vector = Vec<(Value, f64)>;

impl ServerApi {
    /// Connects to `https://<policy>-server.<namespace>.svc:8443` (its name is resolved here to the Service's address) and logs in as the administrator.
    pub async fn log_in(cluster: &Cluster, namespace: &str, policy: &str) -> Result<ServerApi> {
        let service = cluster.core("Service", "services", namespace).get(&format!("{policy}-server")).await?;
        let address = service.data["spec"]["clusterIP"].as_str().context("clusterIP")?.to_owned();
        let ca = cluster.core("ConfigMap", "configmaps", namespace).get(&format!("{policy}-ca")).await?;
        let pem = ca.data["data"]["ca.crt"].as_str().context("ca.crt")?.to_owned();
        let host = format!("{policy}-server.{namespace}.svc");
        let http = Client::builder()
            .tls_certs_only([Certificate::from_pem(pem.as_bytes())?])
            .resolve(&host, format!("{address}:8443").parse()?)
            .timeout(Duration::from_secs(20))
            .build()?;
        let secret = cluster.core("Secret", "secrets", namespace).get(&format!("{policy}-admin")).await?;
        let field = |name: &str| -> Result<String> {
            let encoded = serde_json::from_value::<k8s_openapi::ByteString>(secret.data["data"][name].clone())?;
            Ok(String::from_utf8(encoded.0)?)
        };
        let base = format!("https://{host}:8443");
        Self::log_in_at(http, base, &field("username")?, &field("password")?).await
    }

    pub async fn log_in_at(http: Client, base: String, user: &str, password: &str) -> Result<ServerApi> {
        let answer = http
            .post(format!("{base}/ers/v1/session"))
            .json(&json!({"username": user, "password": password}))
            .send()
            .await?;
        ensure!(answer.status().is_success(), "log-in answered {}", answer.status());
        let cookie = answer
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok()?.split(';').next().map(str::to_owned))
            .collect::<Vec<_>>()
            .join("; ");
        let body: Value = answer.json().await?;
        let csrf = body["csrfToken"].as_str().context("csrfToken")?.to_owned();
        Ok(ServerApi { http, base, cookie, csrf })
    }

    /// A request within the session.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Value)> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header(COOKIE, &self.cookie)
            .header("X-CSRF-Token", &self.csrf);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = self.call(Method::GET, path, None).await?;
        ensure!(status.is_success(), "GET {path}: {status}: {body}");
        Ok(body)
    }

    async fn prometheus(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let answer =
            self.http.get(format!("{}{path}", self.base)).query(parameters).header(COOKIE, &self.cookie).send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        if status != StatusCode::OK || body["status"] != "success" {
            bail!("{path} {parameters:?}: {status}: {body}");
        }
        Ok(body["data"].clone())
    }

    /// An instant query whose answer is a vector.
    pub async fn vector(&self, query: &str) -> Result<Vector> {
        let data = self.prometheus("/api/v1/query", &[("query", query)]).await?;
        ensure!(data["resultType"] == "vector", "{query}: {}", data["resultType"]);
        let rows = data["result"].as_array().context("result")?;
        rows.iter()
            .map(|row| Ok((row["metric"].clone(), row["value"][1].as_str().context("value")?.parse()?)))
            .collect()
    }

    /// An instant query with exactly one series; its value.
    pub async fn value(&self, query: &str) -> Result<f64> {
        match self.vector(query).await?.as_slice() {
            [(_, value)] => Ok(*value),
            other => bail!("{query}: {} series instead of one", other.len()),
        }
    }

    /// All samples of one series in a time range, by a range selector at its end: `(seconds, value)`.
    pub async fn samples(&self, selector: &str, seconds: u64) -> Result<Vec<(f64, f64)>> {
        let data = self.prometheus("/api/v1/query", &[("query", &format!("{selector}[{seconds}s]"))]).await?;
        let rows = data["result"].as_array().context("result")?;
        let [row] = rows.as_slice() else { bail!("{selector}: {} series instead of one", rows.len()) };
        row["values"]
            .as_array()
            .context("values")?
            .iter()
            .map(|pair| Ok((pair[0].as_f64().context("time")?, pair[1].as_str().context("value")?.parse()?)))
            .collect()
    }
}
