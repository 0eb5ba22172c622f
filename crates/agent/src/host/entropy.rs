//! `entropy`: the kernel's random pool, from `/proc/sys/kernel/random`.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

pub struct Entropy {
    available: KeptFile,
    size: KeptFile,
}

impl Entropy {
    pub fn new(roots: &Roots) -> Self {
        let file = |name: &str| KeptFile::new(roots.proc.join("sys/kernel/random").join(name));
        Entropy { available: file("entropy_avail"), size: file("poolsize") }
    }
}

impl Collector for Entropy {
    fn name(&self) -> &'static str {
        "entropy"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for (name, file) in
            [("node_entropy_available_bits", &mut self.available), ("node_entropy_pool_size_bits", &mut self.size)]
        {
            let value = float(file.read(buffer)?.trim());
            out.gauge(name, &[], value.ok_or_else(|| file.malformed("expected one number"))?);
        }
        Ok(())
    }
}
