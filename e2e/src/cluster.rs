//! The cluster under test, as `ers-cluster` made it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::Value;

use crate::wait::eventually;

pub const GROUP: &str = "reporting.ers.dev";

pub struct Cluster {
    pub client: Client,
    pub kubeconfig: PathBuf,
    tool: PathBuf,
    kubectl: PathBuf,
}

fn variable(name: &str) -> Result<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).ok_or_else(|| {
        anyhow!(
            "{name} is not set: these tests need the cluster that `make test` starts; run `e2e/test.sh --only cluster`"
        )
    })
}

impl Cluster {
    /// Connects to the cluster named by `ERS_E2E_KUBECONFIG`, with the tools in `ERS_E2E_TOOLS`.
    pub async fn connect() -> Result<Cluster> {
        let kubeconfig = variable("ERS_E2E_KUBECONFIG")?;
        let tools = variable("ERS_E2E_TOOLS")?;
        // A second call finds the provider installed: that is what is wanted.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config =
            Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &KubeConfigOptions::default()).await?;
        Ok(Cluster {
            client: Client::try_from(config)?,
            kubeconfig,
            tool: tools.join("ers-cluster"),
            kubectl: tools.join("kubectl"),
        })
    }

    fn run(mut command: Command) -> Result<Output> {
        command.output().with_context(|| format!("starting {command:?}"))
    }

    /// Runs `ers-cluster`; fails with its output.
    pub fn tool(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.tool);
        command.args(arguments);
        let output = Self::run(command)?;
        ensure!(
            output.status.success(),
            "ers-cluster {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `kubectl`, the way a user does; answers (succeeded, standard output and error together).
    pub fn kubectl(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        let output = Self::run(command)?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    }

    pub fn kubectl_ok(&self, arguments: &[&str]) -> Result<String> {
        let (succeeded, text) = self.kubectl(arguments)?;
        ensure!(succeeded, "kubectl {arguments:?}: {text}");
        Ok(text)
    }

    /// An API for any kind by group, version and kind.
    pub fn api(
        &self,
        group: &str,
        version: &str,
        kind: &str,
        plural: &str,
        namespace: Option<&str>,
    ) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub fn policies(&self, namespace: &str) -> Api<DynamicObject> {
        self.api(GROUP, "v1alpha1", "ReportPolicy", "reportpolicies", Some(namespace))
    }

    pub fn targets(&self, namespace: &str) -> Api<DynamicObject> {
        self.api(GROUP, "v1alpha1", "CollectorTarget", "collectortargets", Some(namespace))
    }

    pub fn core(&self, kind: &str, plural: &str, namespace: &str) -> Api<DynamicObject> {
        self.api("", "v1", kind, plural, Some(namespace))
    }

    pub async fn create_namespace(&self, name: &str, labels: Value) -> Result<()> {
        let namespaces = self.api("", "v1", "Namespace", "namespaces", None);
        let object: DynamicObject = serde_json::from_value(
            serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        )?;
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .with_context(|| format!("creating namespace {name}"))?;
        Ok(())
    }

    /// Deletes a namespace and waits until it is gone: the proof that nothing in it hangs.
    pub async fn delete_namespace(&self, name: &str, within: Duration) -> Result<()> {
        let namespaces = self.api("", "v1", "Namespace", "namespaces", None);
        namespaces.delete(name, &Default::default()).await.map(drop).or_else(|error| match error {
            kube::Error::Api(status) if status.code == 404 => Ok(()),
            other => Err(other),
        })?;
        eventually(&format!("namespace {name} is gone"), within, || async {
            match namespaces.get_opt(name).await? {
                None => Ok(Some(())),
                Some(object) => bail!("still there: {}", object.data["status"]),
            }
        })
        .await
    }

    /// Server-side apply of one object, as a user's tool does it.
    pub async fn apply(&self, api: &Api<DynamicObject>, object: Value) -> Result<DynamicObject> {
        let name = object["metadata"]["name"].as_str().context("metadata.name")?.to_owned();
        Ok(api.patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object)).await?)
    }

    pub async fn merge(&self, api: &Api<DynamicObject>, name: &str, patch: Value) -> Result<DynamicObject> {
        Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?)
    }

    /// Waits until a condition has a status for the object's present generation; answers the condition.
    pub async fn condition(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        kind: &str,
        status: &str,
        within: Duration,
    ) -> Result<Value> {
        eventually(&format!("{name}: {kind}={status}"), within, || async {
            let object = api.get(name).await?;
            let generation = object.metadata.generation.unwrap_or(0);
            let found = condition_of(&object, kind)
                .with_context(|| format!("no condition {kind} in {}", object.data["status"]))?;
            ensure!(
                found["status"] == status && found["observedGeneration"] == generation,
                "generation {generation}, conditions {}",
                object.data["status"]["conditions"]
            );
            Ok(Some(found))
        })
        .await
    }

    /// Pods by label selector, as JSON.
    pub async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<DynamicObject>> {
        Ok(self.core("Pod", "pods", namespace).list(&ListParams::default().labels(selector)).await?.items)
    }
}

pub fn condition_of(object: &DynamicObject, kind: &str) -> Option<Value> {
    object.data["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind).cloned()
}
