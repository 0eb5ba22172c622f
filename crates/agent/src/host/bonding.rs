//! `bonding`: configured and active members of bonding interfaces, from `/sys/class/net/<master>/bonding`.

use super::file::read_attribute;
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::io;
use std::path::PathBuf;

pub struct Bonding {
    folder: PathBuf,
}

impl Bonding {
    pub fn new(roots: &Roots) -> Self {
        Bonding { folder: roots.sys.join("class/net") }
    }

    fn state(&self, master: &str, slave: &str) -> Result<String, CollectError> {
        let file = |prefix: &str| self.folder.join(master).join(format!("{prefix}{slave}/bonding_slave/mii_status"));
        match read_attribute(&file("lower_")) {
            // Old kernels call the links slave_<name>.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                read_attribute(&file("slave_")).map_err(|source| CollectError::Read { path: file("slave_"), source })
            }
            other => other.map_err(|source| CollectError::read(&file("lower_"), source)),
        }
    }
}

impl Collector for Bonding {
    fn name(&self) -> &'static str {
        "bonding"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let list = self.folder.join("bonding_masters");
        let masters = read_attribute(&list).map_err(|source| CollectError::read(&list, source))?;
        for master in masters.split_ascii_whitespace() {
            let path = self.folder.join(master).join("bonding/slaves");
            let slaves = read_attribute(&path).map_err(|source| CollectError::read(&path, source))?;
            let (mut configured, mut active) = (0_u32, 0_u32);
            for slave in slaves.split_ascii_whitespace() {
                configured += 1;
                if self.state(master, slave)? == "up" {
                    active += 1;
                }
            }
            out.gauge("node_bonding_slaves", &[("master", master)], f64::from(configured));
            out.gauge("node_bonding_active", &[("master", master)], f64::from(active));
        }
        Ok(())
    }
}
