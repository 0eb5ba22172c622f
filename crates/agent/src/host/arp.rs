//! `arp`: entries of the ARP table by device, from `/proc/net/arp`.

use super::file::KeptFile;
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::collections::BTreeMap;

pub struct Arp {
    file: KeptFile,
}

impl Arp {
    pub fn new(roots: &Roots) -> Self {
        Arp { file: KeptFile::new(roots.proc.join("net/arp")) }
    }
}

impl Collector for Arp {
    fn name(&self) -> &'static str {
        "arp"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let text = self.file.read(buffer)?;
        let mut entries: BTreeMap<&str, u32> = BTreeMap::new();
        for line in text.lines().skip(1) {
            let Some(device) = line.split_ascii_whitespace().nth(5) else {
                continue;
            };
            *entries.entry(device).or_default() += 1;
        }
        for (device, count) in entries {
            out.gauge("node_arp_entries", &[("device", device)], f64::from(count));
        }
        Ok(())
    }
}
