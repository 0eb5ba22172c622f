//! `filefd`: open files of the whole machine, from `/proc/sys/fs/file-nr`.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

pub struct FileFd {
    file: KeptFile,
}

impl FileFd {
    pub fn new(roots: &Roots) -> Self {
        FileFd { file: KeptFile::new(roots.proc.join("sys/fs/file-nr")) }
    }
}

impl Collector for FileFd {
    fn name(&self) -> &'static str {
        "filefd"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let values: Vec<Option<f64>> = self.file.read(buffer)?.split_ascii_whitespace().map(float).collect();
        let [Some(allocated), Some(_unused), Some(maximum)] = values[..] else {
            return Err(self.file.malformed("expected three numbers"));
        };
        out.gauge("node_filefd_allocated", &[], allocated);
        out.gauge("node_filefd_maximum", &[], maximum);
        Ok(())
    }
}
