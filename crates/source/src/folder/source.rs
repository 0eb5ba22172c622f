//! Reads a folder of manifests again and again, and tells what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ers_crds::Kind;
use ers_crds::check::{Manifest, read_manifests};
use ers_crds::validate::{self, UnknownFields};
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};

use super::state::{ObjectState, STATE_VERSION, State, ValidDocument, hash_of, read_json, stable_uid, write_json};
use crate::{InvalidObject, Object, ObjectEvent, ObjectKey, ObjectSource};

const MAX_FILES: usize = 1_000;
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_DEPTH: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("failed to read folder {path}")]
    ReadFolder {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read file {path}")]
    ReadFile {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("folder {path} holds more than {MAX_FILES} manifests or is deeper than {MAX_DEPTH}")]
    TooMany { path: String },
    #[error("failed to keep generations in {path}")]
    Keep {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} was written in format {found}; this version reads {STATE_VERSION}")]
    StateVersion { path: String, found: u32 },
}

/// Objects of one namespace from `*.yaml` and `*.yml` below a folder. Documents of other groups are passed over.
///
/// Every object is judged as the API server and the webhook would: schema (unknown fields are refused), CEL rules with the
/// document before, and what CEL can't say. `generation` counts changes of the spec in a file of ours; `uid` is derived
/// from kind, namespace and name. When a file can't be read or parsed, what it held stays as it was.
pub struct FolderSource {
    folder: PathBuf,
    namespace: String,
    state_file: PathBuf,
    rescan_every: Duration,
}

impl FolderSource {
    /// `namespace` is that of manifests which name none; those that name another are refused. The folder is looked at every
    /// `rescan_every`, which costs one `stat` per file.
    pub fn new(
        folder: impl Into<PathBuf>,
        namespace: impl Into<String>,
        state_file: impl Into<PathBuf>,
        rescan_every: Duration,
    ) -> Self {
        FolderSource { folder: folder.into(), namespace: namespace.into(), state_file: state_file.into(), rescan_every }
    }

    /// Reads everything once: what is there now, and what is wrong with it. For a start that must not go on without.
    pub fn read_once(&self) -> Result<Vec<ObjectEvent>, FolderError> {
        self.scanner().scan()
    }

    fn scanner(&self) -> Scanner {
        Scanner {
            folder: self.folder.clone(),
            namespace: self.namespace.clone(),
            state_file: self.state_file.clone(),
            state: None,
            fingerprint: BTreeMap::new(),
            files: BTreeMap::new(),
            told: BTreeMap::new(),
            synced: false,
        }
    }
}

impl ObjectSource for FolderSource {
    fn events(&self) -> BoxStream<'static, ObjectEvent> {
        let mut ticks = tokio::time::interval(self.rescan_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let scanner = Some(self.scanner());
        stream::unfold((scanner, ticks), |(scanner, mut ticks)| async move {
            let mut scanner = scanner?;
            ticks.tick().await;
            let scan = tokio::task::spawn_blocking(move || {
                let result = scanner.scan();
                (scanner, result)
            });
            // The task ends early only when the runtime shuts down, and then the stream does too.
            let (scanner, result) = scan.await.ok()?;
            let events = result.unwrap_or_else(|error| {
                tracing::warn!(error = %Chain(&error), "failed to scan the folder of manifests, trying again");
                Vec::new()
            });
            Some((stream::iter(events), (Some(scanner), ticks)))
        })
        .flatten()
        .boxed()
    }
}

/// An error with its causes in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// When a file changed last, and its size: what tells that it must be read again.
type Fingerprint = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

struct Scanner {
    folder: PathBuf,
    namespace: String,
    state_file: PathBuf,
    /// Read at the first scan.
    state: Option<State>,
    fingerprint: Fingerprint,
    /// Documents of each file as last parsed; a file that can't be parsed keeps them.
    files: BTreeMap<PathBuf, Vec<Manifest>>,
    /// What was told of each object: hash of its spec, and whether it was valid.
    told: BTreeMap<ObjectKey, (String, bool)>,
    synced: bool,
}

impl Scanner {
    /// What changed since the last scan.
    fn scan(&mut self) -> Result<Vec<ObjectEvent>, FolderError> {
        let mut state = match self.state.take() {
            Some(state) => state,
            None => self.read_state()?,
        };
        let result = self.scan_with(&mut state);
        self.state = Some(state);
        result
    }

    fn read_state(&self) -> Result<State, FolderError> {
        let path = self.state_file.display().to_string();
        let state: State = read_json(&self.state_file)
            .map_err(|source| FolderError::Keep { path: path.clone(), source })?
            .unwrap_or_default();
        if state.version != STATE_VERSION {
            return Err(FolderError::StateVersion { path, found: state.version });
        }
        Ok(state)
    }

    fn scan_with(&mut self, state: &mut State) -> Result<Vec<ObjectEvent>, FolderError> {
        let mut fingerprint = Fingerprint::new();
        list(&self.folder, 0, &mut fingerprint)?;
        let mut unparsed = BTreeMap::new();
        if fingerprint != self.fingerprint || !self.synced {
            self.files.retain(|path, _| fingerprint.contains_key(path));
            for (path, mark) in &fingerprint {
                if self.fingerprint.get(path) == Some(mark) {
                    continue;
                }
                match read_file(path, mark.1) {
                    Ok(manifests) => {
                        self.files.insert(path.clone(), manifests);
                    }
                    Err(error) => {
                        tracing::warn!(path = %path.display(), error, "a manifest can't be read; what it held before stays in force");
                        unparsed.insert(path.clone(), error);
                    }
                }
            }
        } else {
            return Ok(Vec::new());
        }
        let before = state.clone();
        let events = self.compare(state, &unparsed);
        if *state != before {
            write_json(&self.state_file, state)
                .map_err(|source| FolderError::Keep { path: self.state_file.display().to_string(), source })?;
        }
        self.fingerprint = fingerprint;
        Ok(events)
    }

    fn compare(&mut self, state: &mut State, unparsed: &BTreeMap<PathBuf, String>) -> Vec<ObjectEvent> {
        let mut found: BTreeMap<ObjectKey, (Value, PathBuf)> = BTreeMap::new();
        let mut events = Vec::new();
        let mut doubled: BTreeMap<ObjectKey, String> = BTreeMap::new();
        for (path, manifests) in &self.files {
            for Manifest { kind, value, .. } in manifests {
                let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
                let key = ObjectKey {
                    kind: *kind,
                    namespace: text("/metadata/namespace").unwrap_or(&self.namespace).to_string(),
                    name: text("/metadata/name").unwrap_or_default().to_string(),
                };
                if let Some((_, first)) = found.get(&key) {
                    doubled.insert(key, format!("it stands in {} and in {}", first.display(), path.display()));
                    continue;
                }
                found.insert(key, (value.clone(), path.clone()));
            }
        }
        let mut live = BTreeSet::new();
        for (key, (value, path)) in &found {
            live.insert(key.clone());
            let fault = doubled
                .get(key)
                .cloned()
                .or_else(|| unparsed.get(path).map(|error| format!("{} can't be read: {error}", path.display())));
            self.tell(key, value, fault, state, &mut events);
        }
        let gone: Vec<ObjectKey> = self.told.keys().filter(|key| !live.contains(*key)).cloned().collect();
        for key in gone {
            self.told.remove(&key);
            state.objects.remove(&slot_name(&key));
            events.push(ObjectEvent::Deleted(key));
        }
        // Objects that went while we were not running have nothing told of them, but keep no generation either.
        let slots: BTreeSet<String> = live.iter().map(slot_name).collect();
        if unparsed.is_empty() {
            state.objects.retain(|slot, _| slots.contains(slot));
        }
        if !self.synced {
            self.synced = true;
            events.extend(Kind::ALL.map(ObjectEvent::Synced));
        }
        events
    }

    /// Tells of one object if its spec or its validity changed.
    fn tell(
        &mut self,
        key: &ObjectKey,
        value: &Value,
        fault: Option<String>,
        state: &mut State,
        events: &mut Vec<ObjectEvent>,
    ) {
        let spec_hash = hash_of(&value["spec"]);
        let entry = state.objects.entry(slot_name(key)).or_insert_with(|| ObjectState {
            generation: 1,
            spec_hash: spec_hash.clone(),
            valid: None,
        });
        if entry.spec_hash != spec_hash {
            entry.generation += 1;
            entry.spec_hash.clone_from(&spec_hash);
        }
        let fault = fault.or_else(|| self.judge(key, value, entry));
        let news = (spec_hash, fault.is_none());
        if self.told.get(key) == Some(&news) {
            return;
        }
        let first_time = !self.told.contains_key(key);
        self.told.insert(key.clone(), news);
        match fault {
            None => {
                let document = complete(key, value, entry.generation);
                entry.valid = Some(ValidDocument { generation: entry.generation, document: document.clone() });
                events.extend(applied(key, document));
            }
            Some(error) => {
                // The last known good comes first after a start, so that it is in force while the newest is refused.
                if first_time && let Some(valid) = &entry.valid {
                    events.extend(applied(key, valid.document.clone()));
                }
                events.push(ObjectEvent::Invalid(InvalidObject {
                    key: key.clone(),
                    generation: entry.generation,
                    error,
                }));
            }
        }
    }

    fn judge(&self, key: &ObjectKey, value: &Value, entry: &ObjectState) -> Option<String> {
        if key.namespace != self.namespace {
            return Some(format!(
                "metadata.namespace: standalone serves namespace {:?} only; leave it out",
                self.namespace
            ));
        }
        let old = entry.valid.as_ref().map(|valid| &valid.document);
        validate::document(key.kind, value, old, UnknownFields::Refuse).err().map(|broken| broken.to_string())
    }
}

fn slot_name(key: &ObjectKey) -> String {
    format!("{}/{}/{}", key.kind, key.namespace, key.name)
}

/// The document with what an API server would add.
fn complete(key: &ObjectKey, value: &Value, generation: i64) -> Value {
    let mut document = value.clone();
    document["metadata"]["namespace"] = json!(key.namespace);
    document["metadata"]["uid"] = json!(stable_uid(key.kind, &key.namespace, &key.name).to_string());
    document["metadata"]["generation"] = json!(generation);
    if let Some(fields) = document.as_object_mut() {
        fields.remove("status");
    }
    document
}

fn applied(key: &ObjectKey, document: Value) -> Option<ObjectEvent> {
    let object = match key.kind {
        Kind::ReportPolicy => serde_json::from_value(document).map(|it| Object::ReportPolicy(Arc::new(it))),
        Kind::CollectorTarget => serde_json::from_value(document).map(|it| Object::CollectorTarget(Arc::new(it))),
    };
    match object {
        Ok(object) => Some(ObjectEvent::Applied(object)),
        Err(error) => {
            // Kept by an older version whose types were other ones; the newest document decides alone.
            tracing::warn!(object = %key, %error, "the last known good document can't be read any more");
            None
        }
    }
}

fn read_file(path: &Path, bytes: u64) -> Result<Vec<Manifest>, String> {
    if bytes > MAX_FILE_BYTES {
        return Err(format!("it has {bytes} bytes, more than {MAX_FILE_BYTES}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    read_manifests(&path.display().to_string(), &text).map_err(|error| error.to_string())
}

fn list(folder: &Path, depth: usize, fingerprint: &mut Fingerprint) -> Result<(), FolderError> {
    let too_many = || FolderError::TooMany { path: folder.display().to_string() };
    let failed = |source| FolderError::ReadFolder { path: folder.display().to_string(), source };
    if depth > MAX_DEPTH {
        return Err(too_many());
    }
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // Editors and Kubernetes' atomic volumes keep copies in entries that start with a dot.
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            // Removed between the listing and now: the next scan sees it gone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(FolderError::ReadFile { path: path.display().to_string(), source }),
        };
        if metadata.is_dir() {
            list(&path, depth + 1, fingerprint)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            if fingerprint.len() >= MAX_FILES {
                return Err(too_many());
            }
            fingerprint.insert(path, (metadata.modified().ok(), metadata.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
