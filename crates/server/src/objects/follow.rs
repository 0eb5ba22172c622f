//! Follows the objects: judges each, puts what is good in force, keeps the last good one when the next is not.

use std::sync::Arc;

use ers_crds::validate::{self, Violations};
use ers_crds::{CollectorTarget, Kind, ReportPolicy};
use ers_plan::canonical_json;
use ers_source::{InvalidObject, Object, ObjectEvent, ObjectKey, ObjectSource, StatusSink};
use ers_store::{ActiveSpec, AuditContext, Store, StoreError};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Objects, Refusal};

/// Who follows, and where it writes down what is in force.
pub struct Follower {
    pub objects: Arc<Objects>,
    pub source: Arc<dyn ObjectSource>,
    pub sink: Arc<dyn StatusSink>,
    pub store: Arc<dyn Store>,
    pub namespace: String,
    pub policy: String,
    pub audit: Box<dyn Fn() -> AuditContext + Send + Sync>,
}

impl Follower {
    /// What was in force before the restart is in force again, until the source says otherwise: an object that was broken meanwhile must not stop its agents.
    pub async fn restore(&self) -> Result<(), StoreError> {
        let specs = self.store.active_specs((self.audit)().tenant).await?;
        self.objects.update(|picture| {
            for spec in specs.iter().filter(|spec| spec.namespace == self.namespace) {
                match Kind::from_name(&spec.kind) {
                    Some(Kind::ReportPolicy) if spec.name == self.policy => {
                        let valid = restored::<ReportPolicy, _>(spec, |object| validate::report_policy(object, None));
                        picture.policy.active = valid.map(Arc::new);
                    }
                    Some(Kind::CollectorTarget) => {
                        let valid =
                            restored::<CollectorTarget, _>(spec, |object| validate::collector_target(object, None));
                        picture.targets.entry(spec.name.clone()).or_default().active = valid.map(Arc::new);
                    }
                    _ => {}
                }
            }
        });
        Ok(())
    }

    pub async fn run(self, stop: CancellationToken) {
        let mut events = self.source.events();
        let mut synced = [false; Kind::ALL.len()];
        loop {
            let event = tokio::select! {
                _ = stop.cancelled() => return,
                event = events.next() => event,
            };
            let Some(event) = event else {
                tracing::error!("the stream of objects ended; what is in force stays");
                stop.cancelled().await;
                return;
            };
            if let ObjectEvent::Synced(kind) = &event {
                synced[Kind::ALL.iter().position(|known| known == kind).unwrap_or(0)] = true;
            }
            if let Err(error) = self.take(event, synced.iter().all(|kind| *kind)).await {
                // The state store fails (a full disk): the picture in memory is right all the same, and the next change writes again.
                tracing::error!(error = &error as &dyn std::error::Error, "what is in force could not be written down");
            }
        }
    }

    async fn take(&self, event: ObjectEvent, all_synced: bool) -> Result<(), StoreError> {
        match event {
            ObjectEvent::Applied(object) => {
                self.sink.observe(object.clone()).await;
                if !self.is_ours(&object) {
                    return self.gone(&object.key()).await;
                }
                match object {
                    Object::ReportPolicy(policy) => self.policy(policy).await,
                    Object::CollectorTarget(target) => self.target(target).await,
                }
            }
            ObjectEvent::Invalid(invalid) => {
                self.invalid(invalid);
                Ok(())
            }
            ObjectEvent::Deleted(key) => {
                self.sink.forget(&key);
                self.gone(&key).await
            }
            ObjectEvent::Synced(kind) => {
                self.forget_what_is_gone(kind).await?;
                if all_synced {
                    self.objects.update(|picture| picture.synced = true);
                }
                Ok(())
            }
        }
    }

    fn is_ours(&self, object: &Object) -> bool {
        match object {
            Object::ReportPolicy(policy) => policy.metadata.name.as_deref() == Some(self.policy.as_str()),
            Object::CollectorTarget(target) => {
                target.spec.report_policy_ref.as_ref().is_none_or(|named| named.name.as_str() == self.policy)
            }
        }
    }

    async fn policy(&self, object: Arc<ReportPolicy>) -> Result<(), StoreError> {
        let generation = object.metadata.generation.unwrap_or(0);
        let judged = validate::report_policy(&object, None);
        let good = judged.is_ok();
        self.objects.update(|picture| {
            let known = &mut picture.policy;
            known.object = Some(object.clone());
            (known.refusal, known.active) = outcome(judged, generation, known.active.take());
        });
        if good { self.write_down(Kind::ReportPolicy, &object.metadata, json!(object.spec)).await } else { Ok(()) }
    }

    async fn target(&self, object: Arc<CollectorTarget>) -> Result<(), StoreError> {
        let generation = object.metadata.generation.unwrap_or(0);
        let name = object.metadata.name.clone().unwrap_or_default();
        let judged = validate::collector_target(&object, None);
        let good = judged.is_ok();
        self.objects.update(|picture| {
            let known = picture.targets.entry(name).or_default();
            known.object = Some(object.clone());
            (known.refusal, known.active) = outcome(judged, generation, known.active.take());
        });
        if good { self.write_down(Kind::CollectorTarget, &object.metadata, json!(object.spec)).await } else { Ok(()) }
    }

    fn invalid(&self, invalid: InvalidObject) {
        let InvalidObject { key, generation, error } = invalid;
        tracing::warn!(object = %key, generation, error, "object refused, what was in force stays");
        let refusal = Some(Refusal { generation, error });
        self.objects.update(|picture| match key.kind {
            Kind::ReportPolicy if key.name == self.policy => picture.policy.refusal = refusal,
            Kind::ReportPolicy => {}
            Kind::CollectorTarget => picture.targets.entry(key.name).or_default().refusal = refusal,
        });
    }

    async fn gone(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match key.kind {
            Kind::ReportPolicy if key.name != self.policy => return Ok(()),
            // The server of a policy that is deleted ends with it; until then it goes on with what it has.
            Kind::ReportPolicy => self.objects.update(|picture| picture.policy.object = None),
            Kind::CollectorTarget => self.objects.update(|picture| {
                picture.targets.remove(&key.name);
            }),
        }
        let audit = (self.audit)();
        self.store.deactivate_spec(&audit, key.kind.name(), &key.namespace, &key.name).await?;
        if key.kind == Kind::CollectorTarget {
            // Keys of agents that were enrolled here (standalone); in a cluster there are none.
            self.store.revoke_agents(&audit, &key.name).await?;
        }
        Ok(())
    }

    /// Objects that went while we were not looking.
    async fn forget_what_is_gone(&self, kind: Kind) -> Result<(), StoreError> {
        if kind != Kind::CollectorTarget {
            return Ok(());
        }
        let picture = self.objects.picture();
        let never_seen = picture.targets.iter().filter(|(_, known)| known.object.is_none() && known.refusal.is_none());
        let gone: Vec<String> = never_seen.map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.gone(&ObjectKey { kind, namespace: self.namespace.clone(), name }).await?;
        }
        Ok(())
    }

    async fn write_down(&self, kind: Kind, metadata: &kube::core::ObjectMeta, spec: Value) -> Result<(), StoreError> {
        let digest = Sha256::digest(canonical_json(&spec).as_bytes());
        let active = ActiveSpec {
            uid: metadata.uid.clone().unwrap_or_default(),
            kind: kind.name().to_owned(),
            namespace: self.namespace.clone(),
            name: metadata.name.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or(0),
            spec,
            hash: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        if self.store.activate_spec(&(self.audit)(), &active).await? {
            tracing::info!(kind = active.kind, name = active.name, generation = active.generation, "spec in force");
        }
        Ok(())
    }
}

fn outcome<Valid>(
    judged: Result<Valid, Violations>,
    generation: i64,
    before: Option<Arc<Valid>>,
) -> (Option<Refusal>, Option<Arc<Valid>>) {
    match judged {
        Ok(valid) => (None, Some(Arc::new(valid))),
        Err(violations) => (Some(Refusal { generation, error: violations.to_string() }), before),
    }
}

fn restored<Object: DeserializeOwned, Valid>(
    active: &ActiveSpec,
    judge: impl FnOnce(&Object) -> Result<Valid, Violations>,
) -> Option<Valid> {
    let object = json!({
        "apiVersion": ers_crds::API_VERSION,
        "kind": active.kind,
        "metadata": {"name": active.name, "namespace": active.namespace, "uid": active.uid, "generation": active.generation},
        "spec": active.spec,
    });
    let object: Object = serde_json::from_value(object).ok()?;
    judge(&object).ok()
}
