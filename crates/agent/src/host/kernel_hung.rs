//! `kernel_hung`: tasks that the kernel found hung, from `/proc/sys/kernel/hung_task_detect_count` (Linux 6.13).

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

pub struct KernelHung {
    file: KeptFile,
}

impl KernelHung {
    pub fn new(roots: &Roots) -> Self {
        KernelHung { file: KeptFile::new(roots.proc.join("sys/kernel/hung_task_detect_count")) }
    }
}

impl Collector for KernelHung {
    fn name(&self) -> &'static str {
        "kernel_hung"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let value = float(self.file.read(buffer)?.trim());
        out.counter(
            "node_kernel_hung_tasks_total",
            &[],
            value.ok_or_else(|| self.file.malformed("expected one number"))?,
        );
        Ok(())
    }
}
