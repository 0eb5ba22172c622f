//! `mdadm`: software RAID, from `/proc/mdstat` and `/sys/block/md*/md`.

use super::file::{KeptFile, names, read_attribute};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::path::{Path, PathBuf};

/// Label values of `node_md_state`, and the activity that each stands for.
const STATES: [(&str, &str); 5] = [
    ("active", "active"),
    ("check", "checking"),
    ("inactive", "inactive"),
    ("recovering", "recovering"),
    ("resync", "resyncing"),
];

pub struct MdAdm {
    mdstat: KeptFile,
    block: PathBuf,
}

/// One array of `/proc/mdstat`.
#[derive(Debug, Default, PartialEq)]
struct Array<'a> {
    name: &'a str,
    activity: &'a str,
    active: u64,
    required: u64,
    failed: u64,
    spare: u64,
    blocks: u64,
    synced: u64,
}

impl MdAdm {
    pub fn new(roots: &Roots) -> Self {
        MdAdm { mdstat: KeptFile::new(roots.proc.join("mdstat")), block: roots.sys.join("block") }
    }
}

impl Collector for MdAdm {
    fn name(&self) -> &'static str {
        "mdadm"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let text = self.mdstat.read(buffer)?;
        let arrays = parse(&text).ok_or_else(|| {
            CollectError::malformed("/proc/mdstat".as_ref(), "expected a device line and its status line")
        })?;
        for array in &arrays {
            let device = [("device", array.name)];
            let disks = |state: &'static str| [("device", array.name), ("state", state)];
            out.gauge("node_md_disks_required", &device, array.required as f64);
            out.gauge("node_md_disks", &disks("active"), array.active as f64);
            out.gauge("node_md_disks", &disks("failed"), array.failed as f64);
            out.gauge("node_md_disks", &disks("spare"), array.spare as f64);
            for (state, activity) in STATES {
                out.gauge("node_md_state", &disks(state), f64::from(u8::from(array.activity == activity)));
            }
            out.gauge("node_md_blocks", &device, array.blocks as f64);
            out.gauge("node_md_blocks_synced", &device, array.synced as f64);
        }
        // Only when there are arrays: /sys/block of a large machine has hundreds of entries.
        if !arrays.is_empty() {
            for name in names(&self.block).unwrap_or_default() {
                if name.starts_with("md") {
                    collect_sysfs(&self.block.join(&name).join("md"), &name, out);
                }
            }
        }
        Ok(())
    }
}

fn collect_sysfs(folder: &Path, device: &str, out: &mut Samples) {
    let level = read_attribute(&folder.join("level")).unwrap_or_default();
    // Containers have no disks of their own.
    if !matches!(level.as_str(), "" | "container" | "imsm" | "ddf") {
        let disks = read_attribute(&folder.join("raid_disks")).unwrap_or_default();
        // While an array grows: "new (old)".
        if let Some(count) = disks.split(' ').next().and_then(|word| word.parse::<u64>().ok()) {
            out.gauge("node_md_raid_disks", &[("device", device)], count as f64);
        }
    }
    // Levels without redundancy have no such file and are never degraded.
    let degraded = read_attribute(&folder.join("degraded")).ok().and_then(|text| text.parse::<u64>().ok());
    out.gauge("node_md_degraded", &[("device", device)], degraded.unwrap_or(0) as f64);
}

/// `None` when the text is not an mdstat.
fn parse(text: &str) -> Option<Vec<Array<'_>>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut arrays = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_other = line.trim().is_empty()
            || line.starts_with(' ')
            || line.starts_with("unused")
            || line.starts_with("Personalities :");
        if is_other {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let (name, activity) = (words.next()?, words.nth(1)?);
        let mut array = Array { name, activity, ..Array::default() };
        array.failed = line.matches("(F)").count() as u64;
        array.spare = line.matches("(S)").count() as u64;
        let status = lines.get(at + 1)?;
        array.blocks = status.split_ascii_whitespace().next()?.parse().ok()?;
        if line.contains("raid0") || line.contains("linear") {
            array.active = line.matches('[').count() as u64;
            array.required = array.active;
        } else if !line.contains("inactive") {
            // e.g. 523968 blocks super 1.2 [4/3] [UUU_]
            let (required, active) = status
                .split_ascii_whitespace()
                .filter_map(|word| word.strip_prefix('[')?.strip_suffix(']')?.split_once('/'))
                .next_back()?;
            array.required = required.parse().ok()?;
            array.active = active.parse().ok()?;
        }
        array.synced = array.blocks;
        let mut sync_line = lines.get(at + 2).copied().unwrap_or_default();
        if sync_line.contains("bitmap") {
            sync_line = lines.get(at + 3).copied().unwrap_or_default();
        }
        let syncing =
            [("recovery", "recovering"), ("reshape", "reshaping"), ("check", "checking"), ("resync", "resyncing")]
                .into_iter()
                .find(|(word, _)| sync_line.contains(word));
        if let Some((_, activity)) = syncing {
            array.activity = activity;
            let waits = sync_line.contains("PENDING") || sync_line.contains("DELAYED");
            array.synced = if waits { 0 } else { synced_blocks(sync_line)? };
        }
        arrays.push(array);
    }
    Some(arrays)
}

/// The first number of `(16775552/195310144)`.
fn synced_blocks(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once('(')?;
    rest.split_once('/')?.0.parse().ok()
}
