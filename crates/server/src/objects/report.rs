//! Says what the server knows of its objects, again and again; the sink writes only what changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ers_crds::Kind;
use ers_crds::conditions::Condition;
use ers_model::TimeRange;
use ers_plan::server_config;
use ers_secrets::SecretSource;
use ers_source::folder::FolderSink;
use ers_source::{ObjectKey, StatusSink, StatusUpdate, Written};
use ers_store::StoreError;
use tokio_util::sync::CancellationToken;

use super::conditions::{self, Arrived, Boot};
use super::secrets::{self, SecretsFact};
use super::{KnownPolicy, Picture};
use crate::app::App;
use crate::overview::targets::{self, TargetRow};
use crate::readiness::Part;
use crate::samples::StorageFact;
use crate::standalone;
use crate::standalone::conditions::Before;

const EVERY: Duration = Duration::from_secs(5);
const STORAGE_EVERY: Duration = Duration::from_secs(15);
const SECRETS_EVERY: Duration = Duration::from_secs(60);
const MAINTAIN_EVERY: Duration = Duration::from_secs(30);
/// Silence means nothing before agents have had time to send what they kept while the server was away.
const SETTLE: Duration = Duration::from_secs(120);

/// Facts that other tasks find out.
#[derive(Debug)]
pub struct Facts {
    storage: Mutex<StorageFact>,
    /// With the generation of the policy that was looked at.
    secrets: Mutex<(i64, SecretsFact)>,
}

impl Default for Facts {
    fn default() -> Self {
        Facts { storage: Mutex::new(StorageFact::Unknown), secrets: Mutex::new((0, SecretsFact::Unknown)) }
    }
}

impl Facts {
    pub fn storage(&self) -> StorageFact {
        self.storage.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// What was found for this generation; what another generation named says nothing about it.
    fn secrets(&self, generation: Option<i64>) -> SecretsFact {
        let (looked_at, fact) = self.secrets.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        if generation == Some(looked_at) { fact } else { SecretsFact::Unknown }
    }
}

/// Writes and reads back in both stores, at once and then regularly; the result is readiness and a condition.
pub async fn watch_storage(app: Arc<App>, facts: Arc<Facts>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(STORAGE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let samples = app.samples.clone();
        let examined = tokio::task::spawn_blocking(move || samples.examine()).await;
        let mut fact =
            examined.unwrap_or_else(|_| StorageFact::Failed("the probe of the sample store broke off".to_owned()));
        let state = app.store.probe(app.tenant(), app.clock.now_ms()).await;
        app.readiness.set(Part::Samples, problem(&fact));
        let state_problem = match &state {
            Ok(()) | Err(StoreError::Full { .. }) => None,
            Err(error) => Some(error.to_string()),
        };
        app.readiness.set(Part::State, state_problem);
        if let Err(error) = state
            && fact == StorageFact::Works
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the state store failed its probe");
            fact = match error {
                StoreError::Full { .. } => StorageFact::Full(error.to_string()),
                other => StorageFact::Failed(other.to_string()),
            };
        }
        *facts.storage.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = fact;
        app.metrics.storage(&app.samples.db().stats());
    }
}

/// A full store still answers queries: the server stays ready, so that the page can show why nothing new comes.
fn problem(fact: &StorageFact) -> Option<String> {
    match fact {
        StorageFact::Works | StorageFact::Full(_) => None,
        StorageFact::Unknown => Some("not looked at yet".to_owned()),
        StorageFact::Failed(why) => Some(why.clone()),
    }
}

/// Flushes, compacts and forgets in the sample store.
pub async fn maintain(app: Arc<App>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(MAINTAIN_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let (db, now_ms) = (app.samples.db().clone(), app.clock.now_ms());
        match tokio::task::spawn_blocking(move || db.maintain(now_ms)).await {
            Ok(Ok(done)) => {
                for (path, reason) in &done.quarantined {
                    tracing::error!(path = %path.display(), reason, "damaged file set aside");
                }
                tracing::debug!(?done, "sample store looked after");
            }
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the sample store could not be looked after");
            }
            Err(_) => tracing::error!("looking after the sample store broke off"),
        }
    }
}

/// Looks whether the policy's secrets can be read: when the policy changes, and regularly.
pub async fn watch_secrets(app: Arc<App>, source: Arc<dyn SecretSource>, facts: Arc<Facts>, stop: CancellationToken) {
    loop {
        let changed = app.objects.changed();
        if let Some(policy) = app.objects.picture().policy.active.clone() {
            let fact = secrets::look(&policy, source.as_ref()).await;
            *facts.secrets.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = (policy.identity.generation, fact);
        }
        tokio::select! {
            _ = stop.cancelled() => return,
            _ = changed => {}
            _ = tokio::time::sleep(SECRETS_EVERY) => {}
        }
    }
}

/// Generation and time of the first judgement, per object.
type FirstJudged = BTreeMap<ObjectKey, (i64, i64)>;

struct OwnedBefore {
    conditions: Vec<Condition>,
    since_ms: i64,
    now_ms: i64,
}

impl OwnedBefore {
    fn as_ref(&self) -> Before<'_> {
        Before { conditions: &self.conditions, since_ms: self.since_ms, now_ms: self.now_ms }
    }
}

/// The loop that writes statuses.
pub struct Reporter {
    pub app: Arc<App>,
    pub sink: Arc<dyn StatusSink>,
    pub facts: Arc<Facts>,
    first_judged: Mutex<FirstJudged>,
}

impl Reporter {
    pub fn new(app: Arc<App>, sink: Arc<dyn StatusSink>, facts: Arc<Facts>) -> Self {
        Reporter { app, sink, facts, first_judged: Mutex::new(FirstJudged::new()) }
    }

    pub async fn run(self, stop: CancellationToken) {
        let started = tokio::time::Instant::now();
        let mut ever: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let changed = self.app.objects.changed();
            tokio::select! {
                _ = stop.cancelled() => return,
                _ = tick.tick() => {}
                _ = changed => {}
            }
            let picture = self.app.objects.picture();
            if !picture.synced {
                continue;
            }
            let Some(rows) = self.rows(&picture, &mut ever).await else { continue };
            for (key, update) in self.updates(&picture, rows, &ever, started.elapsed() < SETTLE) {
                self.write(key, update).await;
            }
        }
    }

    /// What arrived lately, and which targets ever sent something.
    async fn rows(&self, picture: &Picture, ever: &mut std::collections::BTreeSet<String>) -> Option<Vec<TargetRow>> {
        let reader = self.app.samples.db().reader(Vec::new());
        let now_ms = self.app.clock.now_ms();
        let unknown: Vec<String> = picture.targets.keys().filter(|name| !ever.contains(*name)).cloned().collect();
        let found = tokio::task::spawn_blocking(move || {
            let rows = targets::read(&reader, now_ms)?;
            let mut seen = Vec::new();
            for name in unknown {
                let matchers = targets::up_of(&name);
                let all = TimeRange { start_ms: 0, end_ms: now_ms };
                let listing = reader.series(&[matchers], all, 1)?;
                if !listing.items.is_empty() {
                    seen.push(name);
                }
            }
            Ok::<_, ers_promql::SourceError>((rows, seen))
        })
        .await;
        match found {
            Ok(Ok((rows, seen))) => {
                ever.extend(seen);
                Some(rows)
            }
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the series about targets could not be read");
                None
            }
            Err(_) => None,
        }
    }

    fn updates(
        &self,
        picture: &Picture,
        rows: Vec<TargetRow>,
        ever: &std::collections::BTreeSet<String>,
        just_started: bool,
    ) -> Vec<(ObjectKey, StatusUpdate)> {
        let config = &self.app.config;
        let mut first_judged = self.first_judged.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let key = |kind, name: &str| ObjectKey { kind, namespace: config.namespace.clone(), name: name.to_owned() };
        let mut updates = Vec::new();
        let boot = self.boot(&picture.policy);
        let generation = picture.policy.active.as_ref().map(|active| active.identity.generation);
        if let Some(mut update) =
            conditions::of_policy(&picture.policy, &boot, &self.facts.storage(), &self.facts.secrets(generation))
        {
            if let Some(kept) = &self.app.kept_statuses {
                let object = key(Kind::ReportPolicy, &config.policy);
                let before = self.before(kept, &object, &mut first_judged, &update);
                standalone::conditions::complete_policy(&mut update, &picture.policy, &before.as_ref());
            }
            updates.push((key(Kind::ReportPolicy, &config.policy), update));
        }
        for (name, known) in &picture.targets {
            let rows = rows.iter().filter(|row| row.target == *name).cloned().collect();
            let arrived = Arrived { rows, ever: ever.contains(name), just_started };
            let Some(mut update) = conditions::of_target(known, &arrived) else { continue };
            if let Some(kept) = &self.app.kept_statuses {
                let object = key(Kind::CollectorTarget, name);
                let before = self.before(kept, &object, &mut first_judged, &update);
                let agent = self.app.agents.state_of(name);
                standalone::conditions::complete_target(&mut update, known, agent, &before.as_ref());
            }
            updates.push((key(Kind::CollectorTarget, name), update));
        }
        updates
    }

    /// What is kept of a status, and since when its newest generation is judged.
    fn before(
        &self,
        kept: &FolderSink,
        key: &ObjectKey,
        first_judged: &mut FirstJudged,
        update: &StatusUpdate,
    ) -> OwnedBefore {
        let now_ms = self.app.clock.now_ms();
        let generation = update.conditions.first().map_or(0, |condition| condition.observed_generation);
        let since = first_judged.entry(key.clone()).or_insert((generation, now_ms));
        if since.0 != generation {
            *since = (generation, now_ms);
        }
        let conditions = kept.status(key).map(|status| status["conditions"].clone()).unwrap_or_default();
        OwnedBefore { conditions: serde_json::from_value(conditions).unwrap_or_default(), since_ms: since.1, now_ms }
    }

    /// The same plan that the operator makes, from the same inputs. Standalone starts itself again when it differs.
    fn boot(&self, known: &KnownPolicy) -> Boot {
        let Some(active) = known.active.as_ref() else { return Boot::Same };
        match server_config(active, &self.app.place_of(active)) {
            Ok(wanted) if wanted.config_hash == self.app.config.config_hash => Boot::Same,
            _ => {
                self.app.restart_wanted();
                Boot::Other
            }
        }
    }

    async fn write(&self, key: ObjectKey, update: StatusUpdate) {
        let shown = key.to_string();
        match self.sink.write(key, update).await {
            Ok(Written::Changed) => {
                tracing::info!(object = shown, "status written");
                self.app.metrics.status_write("changed");
            }
            Ok(Written::Unchanged) => self.app.metrics.status_write("unchanged"),
            Ok(Written::Gone) => self.app.metrics.status_write("gone"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    object = shown,
                    "status could not be written, trying again"
                );
                self.app.metrics.status_write("failed");
            }
        }
    }
}
