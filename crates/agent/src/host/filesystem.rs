//! `filesystem`: space and inodes of every mount, from `/proc/1/mountinfo` and `statfs`.
//!
//! `statfs` of a dead network mount hangs for ever. It is called on a thread of its own; a mount that does not answer
//! in [`PATIENCE`] is reported as `node_filesystem_device_error 1` and left alone until its one call returns. So a
//! hung mount costs one thread, never one per collection, and never holds up the others.

use super::file::{KeptFile, to_valid_utf8};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use rustix::fs::{StatFs, statfs};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one mount may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most threads that may be stuck at once; beyond, further mounts are reported as failed without being asked.
const MOST_STUCK: usize = 16;

/// Pseudo file systems that hold no files: node_exporter's default exclusion.
const IGNORED_TYPES: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "erofs",
    "sysfs",
    "tracefs",
];

/// What asks the kernel about one mount; a parameter so that tests can hang.
type Ask = Arc<dyn Fn(&Path) -> rustix::io::Result<StatFs> + Send + Sync>;
type Answer = rustix::io::Result<StatFs>;

pub struct Filesystem {
    mounts: KeptFile,
    own_mounts: KeptFile,
    root: PathBuf,
    in_cluster: bool,
    ask: Ask,
    worker: Option<Worker>,
    stuck: Arc<Mutex<HashSet<PathBuf>>>,
    patience: Duration,
}

/// A thread that answers in order; it ends when its sender is dropped.
struct Worker {
    questions: Sender<PathBuf>,
    answers: Receiver<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mount {
    device: String,
    mountpoint: String,
    fstype: String,
    major: String,
    minor: String,
    read_only: bool,
}

impl Filesystem {
    pub fn new(roots: &Roots, in_cluster: bool) -> Self {
        Filesystem {
            mounts: KeptFile::new(roots.proc.join("1/mountinfo")),
            own_mounts: KeptFile::new(roots.proc.join("self/mountinfo")),
            root: roots.root.clone(),
            in_cluster,
            ask: Arc::new(|path: &Path| statfs(path)),
            worker: None,
            stuck: Arc::default(),
            patience: PATIENCE,
        }
    }

    fn mounts(&mut self, buffer: &mut Vec<u8>) -> Result<Vec<Mount>, CollectError> {
        let file = if self.mounts.read(buffer).is_ok() {
            &mut self.mounts
        } else {
            // Without the right to look at process 1 (hidepid) our own mounts have to do.
            &mut self.own_mounts
        };
        let text = file.read(buffer)?;
        let mut seen = HashSet::new();
        Ok(text
            .lines()
            .filter_map(|line| parse_mount(line, &self.root))
            .filter(|mount| !self.is_ignored(mount))
            .filter(|mount| seen.insert(mount.clone()))
            .collect())
    }

    fn is_ignored(&self, mount: &Mount) -> bool {
        IGNORED_TYPES.contains(&mount.fstype.as_str()) || is_ignored_mount(&mount.mountpoint, self.in_cluster)
    }

    /// Asks about one mount; `None` when it is hung.
    fn stat(&mut self, path: &Path) -> Option<Answer> {
        {
            let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            if stuck.contains(path) || stuck.len() >= MOST_STUCK {
                return None;
            }
        }
        let worker = match &mut self.worker {
            Some(worker) => worker,
            empty => empty.insert(Worker::spawn(self.ask.clone(), self.stuck.clone())?),
        };
        if worker.questions.send(path.to_owned()).is_err() {
            self.worker = None;
            return None;
        }
        if let Ok(answer) = worker.answers.recv_timeout(self.patience) {
            return Some(answer);
        }
        // The thread is left to its call; it takes the mark back when the call returns.
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        self.worker = None;
        tracing::warn!(mountpoint = %path.display(), "mount does not answer and is left alone until it does");
        None
    }
}

impl Worker {
    /// `None` when the machine gives no thread.
    fn spawn(ask: Ask, stuck: Arc<Mutex<HashSet<PathBuf>>>) -> Option<Worker> {
        let (questions, asked) = channel::<PathBuf>();
        let (answered, answers) = channel();
        let work = move || {
            while let Ok(path) = asked.recv() {
                let answer = ask(&path);
                if answered.send(answer).is_err() {
                    stuck.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
                    tracing::info!(mountpoint = %path.display(), "mount answers again");
                    return;
                }
            }
        };
        std::thread::Builder::new().name("statfs".to_owned()).stack_size(64 * 1024).spawn(work).ok()?;
        Some(Worker { questions, answers })
    }
}

impl Collector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for mount in self.mounts(buffer)? {
            let path = join_root(&self.root, &mount.mountpoint);
            let answer = self.stat(&path);
            let error = match &answer {
                None => "mountpoint timeout".to_owned(),
                Some(Err(error)) => std::io::Error::from(*error).kind().to_string(),
                Some(Ok(_)) => String::new(),
            };
            let labels = [
                ("device", mount.device.as_str()),
                ("device_error", error.as_str()),
                ("fstype", mount.fstype.as_str()),
                ("mountpoint", mount.mountpoint.as_str()),
            ];
            out.gauge("node_filesystem_device_error", &labels, f64::from(u8::from(!error.is_empty())));
            out.gauge("node_filesystem_readonly", &labels, f64::from(u8::from(mount.read_only)));
            let Some(Ok(stat)) = answer else {
                continue;
            };
            let block = stat.f_bsize as f64;
            out.gauge("node_filesystem_size_bytes", &labels, stat.f_blocks as f64 * block);
            out.gauge("node_filesystem_free_bytes", &labels, stat.f_bfree as f64 * block);
            out.gauge("node_filesystem_avail_bytes", &labels, stat.f_bavail as f64 * block);
            out.gauge("node_filesystem_files", &labels, stat.f_files as f64);
            out.gauge("node_filesystem_files_free", &labels, stat.f_ffree as f64);
            let place = [
                ("device", mount.device.as_str()),
                ("major", mount.major.as_str()),
                ("minor", mount.minor.as_str()),
                ("mountpoint", mount.mountpoint.as_str()),
            ];
            out.gauge("node_filesystem_mount_info", &place, 1.0);
        }
        Ok(())
    }
}

/// One line of mountinfo (proc(5)): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &str, root: &Path) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let mountpoint = fields.nth(1)?;
    let options = fields.next()?;
    let mut rest = after.split(' ');
    let (fstype, device, super_options) = (rest.next()?, rest.next()?, rest.next().unwrap_or_default());
    let mountpoint = mountpoint.replace("\\040", " ").replace("\\011", "\t");
    let has = |list: &str, one: &str| list.split(',').any(|option| option == one);
    Some(Mount {
        device: to_valid_utf8(device.as_bytes()).into_owned(),
        mountpoint: strip_root(&mountpoint, root),
        fstype: fstype.to_owned(),
        major: major.to_owned(),
        minor: minor.to_owned(),
        read_only: has(options, "ro") || has(super_options, "ro") || has(super_options, "emergency_ro"),
    })
}

/// Seen from a container, the host's mounts lie below its root; they are reported as the host knows them.
fn strip_root(mountpoint: &str, root: &Path) -> String {
    let root = root.to_string_lossy();
    let root = root.trim_end_matches('/');
    match mountpoint.strip_prefix(root) {
        Some("") => "/".to_owned(),
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => mountpoint.to_owned(),
    }
}

fn join_root(root: &Path, mountpoint: &str) -> PathBuf {
    root.join(mountpoint.trim_start_matches('/'))
}

/// node_exporter's default exclusion, and in a cluster kube-prometheus' too: what containers mount comes and goes.
fn is_ignored_mount(mountpoint: &str, in_cluster: bool) -> bool {
    let whole = ["/dev", "/proc", "/sys"];
    let below = ["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"];
    let cluster = ["/run/k3s/containerd/", "/run/containerd/", "/var/lib/kubelet/pods/"];
    let is_below = |prefix: &&str| mountpoint.strip_prefix(*prefix).is_some_and(|rest| !rest.is_empty());
    whole.iter().any(|one| mountpoint.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        || below.iter().any(is_below)
        || (in_cluster && cluster.iter().any(is_below))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    const LINE: &str = "36 35 98:0 /mnt1 /a\\040b rw,noatime master:1 - ext3 /dev/root ro,errors=continue";

    #[test]
    fn a_line_of_mountinfo_is_taken_apart() {
        let mount = parse_mount(LINE, "/".as_ref()).expect("a mount");
        assert_eq!((mount.mountpoint.as_str(), mount.device.as_str()), ("/a b", "/dev/root"));
        assert!(mount.read_only);
        assert_eq!(parse_mount("nonsense", "/".as_ref()), None);
    }

    #[test]
    fn mounts_of_the_host_are_named_as_the_host_names_them() {
        assert_eq!(strip_root("/host/root", "/host/root".as_ref()), "/");
        assert_eq!(strip_root("/host/root/var", "/host/root".as_ref()), "/var");
        assert_eq!(strip_root("/host/rootless", "/host/root".as_ref()), "/host/rootless");
    }

    #[test]
    fn pseudo_mounts_are_left_out() {
        for mountpoint in ["/dev", "/dev/shm", "/proc", "/sys/fs", "/var/lib/docker/x", "/run/credentials/a"] {
            assert!(is_ignored_mount(mountpoint, false), "{mountpoint}");
        }
        for mountpoint in ["/", "/device", "/var/lib/docker", "/home", "/var/lib/kubelet/pods/x"] {
            assert!(!is_ignored_mount(mountpoint, false), "{mountpoint}");
        }
        assert!(is_ignored_mount("/var/lib/kubelet/pods/x", true));
    }

    #[test]
    fn a_hung_mount_is_reported_costs_one_thread_and_comes_back() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("1")).expect("folder");
        let lines = "1 0 8:1 / /slow rw - nfs server:/x rw\n2 0 8:1 / /fast rw - ext4 /dev/sda1 rw\n";
        std::fs::write(folder.path().join("1/mountinfo"), lines).expect("write");
        let roots = Roots::new(folder.path().into(), "/sys".into(), "/".into());
        let mut filesystem = Filesystem::new(&roots, false);
        filesystem.patience = Duration::from_millis(20);
        let gate = Arc::new(Barrier::new(2));
        let behind = gate.clone();
        filesystem.ask = Arc::new(move |path: &Path| {
            if path.ends_with("slow") {
                behind.wait();
            }
            statfs("/")
        });
        let errors = |filesystem: &mut Filesystem| {
            let mut out = Samples::default();
            filesystem.collect(&mut Vec::new(), &mut out).expect("collect");
            let is_error = |name: &str| name == "node_filesystem_device_error";
            out.iter().filter(|sample| is_error(sample.name)).map(|sample| sample.value).collect::<Vec<f64>>()
        };
        assert_eq!(errors(&mut filesystem), [1.0, 0.0]);
        assert_eq!(errors(&mut filesystem), [1.0, 0.0]);
        assert_eq!(filesystem.stuck.lock().expect("lock").len(), 1);
        gate.wait();
        while !filesystem.stuck.lock().expect("lock").is_empty() {
            std::thread::yield_now();
        }
        filesystem.ask = Arc::new(|_: &Path| statfs("/"));
        filesystem.worker = None;
        assert_eq!(errors(&mut filesystem), [0.0, 0.0]);
    }
}
