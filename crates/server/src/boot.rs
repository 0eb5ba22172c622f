//! The data folder: what is where, whose it is, and that only one server works in it.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ers_plan::{SERVER_CONFIG_VERSION, ServerConfig};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::private_file;

/// Larger files are no configurations.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MARK_VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("cannot read the configuration {path}")]
    ReadConfig {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the configuration {path} is larger than {MAX_CONFIG_BYTES} bytes")]
    ConfigTooLarge { path: PathBuf },
    #[error("the configuration {path} is not understood")]
    ParseConfig {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "the configuration {path} has version {found}, this program knows version {SERVER_CONFIG_VERSION}: operator and server must be of one release"
    )]
    ConfigVersion { path: PathBuf, found: u32 },
    #[error("cannot use the data folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another ers-server works in {path}; two in one folder would destroy each other's data")]
    InUse { path: PathBuf },
    #[error("the mark {path} is not understood: {reason}; restore it or start with an empty data folder")]
    Mark { path: PathBuf, reason: String },
    #[error(
        "{path} holds the data of ReportPolicy {found}, and this server is for {expected}: nothing was changed; \
         give this policy a volume of its own, or give it the name of the data's owner"
    )]
    ForeignVolume { path: PathBuf, found: Box<TenantMark>, expected: Box<TenantMark> },
}

/// Reads the boot settings that the operator made.
pub fn read_config(path: &Path) -> Result<ServerConfig, BootError> {
    let failed = |source| BootError::ReadConfig { path: path.to_path_buf(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Err(BootError::ConfigTooLarge { path: path.to_path_buf() });
    }
    // The version first: another version's fields would only confuse.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let parse = |source| BootError::ParseConfig { path: path.to_path_buf(), source };
    let Version { version } = serde_json::from_slice(&bytes).map_err(parse)?;
    if version != SERVER_CONFIG_VERSION {
        return Err(BootError::ConfigVersion { path: path.to_path_buf(), found: version });
    }
    serde_json::from_slice(&bytes).map_err(parse)
}

/// Whose data a folder holds. Plain text, for whoever finds a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantMark {
    pub version: u32,
    pub tenant: Uuid,
    pub cluster: String,
    pub namespace: String,
    pub policy: String,
}

impl fmt::Display for TenantMark {
    /// `demo/reporting of cluster "local" (tenant 0000...)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TenantMark { version: _, tenant, cluster, namespace, policy } = self;
        write!(f, "{namespace}/{policy} of cluster {cluster:?} (tenant {tenant})")
    }
}

impl TenantMark {
    pub fn of(config: &ServerConfig) -> Self {
        TenantMark {
            version: MARK_VERSION,
            tenant: config.tenant,
            cluster: config.cluster.clone(),
            namespace: config.namespace.clone(),
            policy: config.policy.clone(),
        }
    }
}

/// The data folder, held by this process.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    /// Unlocked when the process ends, however it ends.
    _lock: fs::File,
}

impl DataFolder {
    /// Takes the folder for this server, creating what is missing. A folder of another tenant is left as it is.
    pub fn take(root: &Path, mark: &TenantMark) -> Result<Self, BootError> {
        let failed = |source| BootError::Folder { path: root.to_path_buf(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(failed)?;
        let lock =
            fs::OpenOptions::new().write(true).create(true).truncate(false).open(root.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(BootError::InUse { path: root.to_path_buf() }),
            Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        match read_mark(root)? {
            None => {
                let text = serde_json::to_vec_pretty(mark).expect("a mark is made of strings");
                private_file::write(&root.join("tenant.json"), &text).map_err(failed)?;
            }
            Some(found) if found.tenant == mark.tenant => {}
            Some(found) => {
                let (path, expected) = (root.to_path_buf(), Box::new(mark.clone()));
                return Err(BootError::ForeignVolume { path, found: Box::new(found), expected });
            }
        }
        for folder in ["tsdb", "agents"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder)).map_err(failed)?;
        }
        Ok(DataFolder { root: root.to_path_buf(), _lock: lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn state_file(&self) -> PathBuf {
        state_file(&self.root)
    }

    pub fn tls_file(&self) -> PathBuf {
        self.root.join("tls.json")
    }

    /// The first administrator's password, while it is the one in force.
    pub fn admin_password_file(&self) -> PathBuf {
        admin_password_file(&self.root)
    }

    pub fn samples(&self) -> PathBuf {
        self.root.join("tsdb")
    }

    pub fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    pub fn objects_file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

pub fn state_file(root: &Path) -> PathBuf {
    root.join("state.db")
}

pub fn admin_password_file(root: &Path) -> PathBuf {
    root.join("admin-password")
}

/// Whose folder it is; none for a new one.
pub fn read_mark(root: &Path) -> Result<Option<TenantMark>, BootError> {
    let path = root.join("tenant.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(BootError::Folder { path, source }),
    };
    let mark: TenantMark = serde_json::from_slice(&bytes)
        .map_err(|error| BootError::Mark { path: path.clone(), reason: error.to_string() })?;
    if mark.version != MARK_VERSION {
        return Err(BootError::Mark { path, reason: format!("version {}", mark.version) });
    }
    Ok(Some(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(policy: &str) -> TenantMark {
        TenantMark {
            version: MARK_VERSION,
            tenant: ers_plan::tenant_id("local", "demo", policy),
            cluster: "local".to_owned(),
            namespace: "demo".to_owned(),
            policy: policy.to_owned(),
        }
    }

    #[test]
    fn a_foreign_volume_is_refused_with_both_names_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(DataFolder::take(folder.path(), &mark("reporting")).unwrap());
        let before = fs::read(folder.path().join("tenant.json")).unwrap();
        let error = DataFolder::take(folder.path(), &mark("other")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("demo/reporting") && text.contains("demo/other"), "{text}");
        assert_eq!(fs::read(folder.path().join("tenant.json")).unwrap(), before);
        DataFolder::take(folder.path(), &mark("reporting")).unwrap();
    }

    #[test]
    fn two_servers_never_work_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::take(folder.path(), &mark("reporting")).unwrap();
        let second = DataFolder::take(folder.path(), &mark("reporting"));
        assert!(matches!(second, Err(BootError::InUse { .. })));
        drop(first);
        DataFolder::take(folder.path(), &mark("reporting")).unwrap();
    }

    #[test]
    fn a_damaged_mark_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tenant.json"), "{").unwrap();
        let error = DataFolder::take(folder.path(), &mark("reporting")).unwrap_err();
        assert!(error.to_string().contains("tenant.json"), "{error}");
    }

    #[test]
    fn a_configuration_of_another_release_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.json");
        fs::write(&path, r#"{"version": 99, "news": true}"#).unwrap();
        assert!(matches!(read_config(&path), Err(BootError::ConfigVersion { found: 99, .. })));
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(read_config(&path), Err(BootError::ParseConfig { .. })));
        assert!(matches!(read_config(&folder.path().join("none")), Err(BootError::ReadConfig { .. })));
    }
}
