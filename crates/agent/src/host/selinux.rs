//! `selinux`: whether and how it is enforced, from `/sys/fs/selinux/enforce` and `/etc/selinux/config`.

use super::file::read_attribute;
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::path::PathBuf;

pub struct SeLinux {
    enforce: PathBuf,
    config: PathBuf,
}

impl SeLinux {
    pub fn new(roots: &Roots) -> Self {
        SeLinux { enforce: roots.sys.join("fs/selinux/enforce"), config: roots.root.join("etc/selinux/config") }
    }
}

impl Collector for SeLinux {
    fn name(&self) -> &'static str {
        "selinux"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let Ok(enforce) = read_attribute(&self.enforce) else {
            out.gauge("node_selinux_enabled", &[], 0.0);
            return Ok(());
        };
        out.gauge("node_selinux_enabled", &[], 1.0);
        let config = std::fs::read_to_string(&self.config).unwrap_or_default();
        let configured = config.lines().find_map(|line| line.trim().strip_prefix("SELINUX="));
        let mode = match configured.map(str::trim) {
            Some("enforcing") => 1.0,
            Some("permissive") => 0.0,
            _ => -1.0,
        };
        out.gauge("node_selinux_config_mode", &[], mode);
        out.gauge("node_selinux_current_mode", &[], if enforce == "1" { 1.0 } else { 0.0 });
        Ok(())
    }
}
