//! `netdev`: counters of network devices.

use super::links::SharedLinks;
use super::{CollectError, Collector};
use crate::samples::Samples;
use ers_wire::exposition::Kind;

pub struct NetDev {
    links: SharedLinks,
}

impl NetDev {
    pub fn new(links: SharedLinks) -> Self {
        NetDev { links }
    }
}

impl Collector for NetDev {
    fn name(&self) -> &'static str {
        "netdev"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        self.links.read(buffer, true, |links| {
            for (device, counters) in &links.counters {
                for (name, value) in counters {
                    let name = ["node_network_", name, "_total"];
                    out.push(Kind::Counter, &name, &[("device", device)], *value as f64);
                }
            }
        })
    }
}
