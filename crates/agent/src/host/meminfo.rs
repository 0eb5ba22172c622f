//! `meminfo`: every line of `/proc/meminfo`, so that a new kernel's lines come through without a change here.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;

pub struct MemInfo {
    file: KeptFile,
}

impl MemInfo {
    pub fn new(roots: &Roots) -> Self {
        MemInfo { file: KeptFile::new(roots.proc.join("meminfo")) }
    }
}

impl Collector for MemInfo {
    fn name(&self) -> &'static str {
        "meminfo"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let text = self.file.read(buffer)?;
        for line in text.lines() {
            let malformed = || CollectError::malformed("/proc/meminfo".as_ref(), "expected 'Key: number [kB]'");
            let mut words = line.split_ascii_whitespace();
            let (Some(key), Some(number)) = (words.next(), words.next()) else {
                continue;
            };
            let value = float(number).ok_or_else(malformed)?;
            let key = key.trim_end_matches(':');
            // Active(anon) is node_memory_Active_anon_bytes; lines without a unit are counts, not bytes.
            let (start, middle) = key.split_once('(').unwrap_or((key, ""));
            let middle = middle.trim_end_matches(')');
            let glue = if middle.is_empty() { "" } else { "_" };
            let (factor, unit) = if words.next().is_some() { (1024.0, "_bytes") } else { (1.0, "") };
            out.push(Kind::Gauge, &["node_memory_", start, glue, middle, unit], &[], value * factor);
        }
        Ok(())
    }
}
