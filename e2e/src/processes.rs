//! The containers' processes, seen from the host: the cluster runs in a network namespace of its own, not in a process namespace.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Process ids that belong to a pod, found by the pod's uid in their cgroup, running the named program.
pub fn of_pod(pod_uid: &str, program: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end while we look at it.
        let Ok(cgroup) = fs::read_to_string(entry.path().join("cgroup")) else { continue };
        let in_pod = cgroup.contains(pod_uid) || cgroup.contains(&pod_uid.replace('-', "_"));
        if in_pod && name_of(&entry.path()).is_some_and(|name| name == program) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn name_of(process: &Path) -> Option<String> {
    let command_line = fs::read(process.join("cmdline")).ok()?;
    let first = command_line.split(|byte| *byte == 0).next()?;
    let path = String::from_utf8_lossy(first).into_owned();
    Some(Path::new(&path).file_name()?.to_string_lossy().into_owned())
}

/// Sends a signal (`KILL`, `STOP`, `CONT`) to one process.
pub fn signal(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status()?;
    ensure!(status.success(), "kill -{signal} {pid}");
    Ok(())
}

/// Resident memory in bytes, from `/proc/<pid>/statm`.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split_whitespace().nth(1).context("statm")?.parse()?;
    Ok(pages * 4096)
}

/// Whether a process still runs (a zombie does not).
pub fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}
