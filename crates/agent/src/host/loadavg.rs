//! `loadavg`: load averages, from `/proc/loadavg`.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

pub struct LoadAvg {
    file: KeptFile,
}

impl LoadAvg {
    pub fn new(roots: &Roots) -> Self {
        LoadAvg { file: KeptFile::new(roots.proc.join("loadavg")) }
    }
}

impl Collector for LoadAvg {
    fn name(&self) -> &'static str {
        "loadavg"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let values: Vec<Option<f64>> = self.file.read(buffer)?.split_ascii_whitespace().take(3).map(float).collect();
        let [Some(one), Some(five), Some(fifteen)] = values[..] else {
            return Err(self.file.malformed("expected three averages"));
        };
        out.gauge("node_load1", &[], one);
        out.gauge("node_load5", &[], five);
        out.gauge("node_load15", &[], fifteen);
        Ok(())
    }
}
