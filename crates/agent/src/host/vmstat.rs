//! `vmstat`: paging, faults and OOM kills, from `/proc/vmstat`, those of node_exporter's default list.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;

pub struct VmStat {
    file: KeptFile,
}

impl VmStat {
    pub fn new(roots: &Roots) -> Self {
        VmStat { file: KeptFile::new(roots.proc.join("vmstat")) }
    }
}

impl Collector for VmStat {
    fn name(&self) -> &'static str {
        "vmstat"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let path = self.file.path().to_owned();
        for line in self.file.read(buffer)?.lines() {
            let Some((name, value)) = line.split_once(' ').filter(|(name, _)| is_wanted(name)) else {
                continue;
            };
            let value = float(value.trim()).ok_or_else(|| CollectError::malformed(&path, "expected 'name number'"))?;
            out.push(Kind::Untyped, &["node_vmstat_", name], &[], value);
        }
        Ok(())
    }
}

/// `^(oom_kill|pgpg|pswp|pg.*fault).*`
fn is_wanted(name: &str) -> bool {
    name.starts_with("oom_kill")
        || name.starts_with("pgpg")
        || name.starts_with("pswp")
        || (name.starts_with("pg") && name[2..].contains("fault"))
}
