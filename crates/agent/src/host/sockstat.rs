//! `sockstat`: sockets in use by protocol, from `/proc/net/sockstat` and `/proc/net/sockstat6`.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;

pub struct SockStat {
    four: KeptFile,
    six: KeptFile,
}

impl SockStat {
    pub fn new(roots: &Roots) -> Self {
        let file = |name: &str| KeptFile::new(roots.proc.join("net").join(name));
        SockStat { four: file("sockstat"), six: file("sockstat6") }
    }
}

impl Collector for SockStat {
    fn name(&self) -> &'static str {
        "sockstat"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let page_bytes = rustix::param::page_size() as f64;
        for file in [&mut self.four, &mut self.six] {
            let text = match file.read(buffer) {
                Ok(text) => text,
                // One of the two protocols is switched off.
                Err(CollectError::NoData) => continue,
                Err(other) => return Err(other),
            };
            // e.g. "TCP: inuse 4 orphan 0 tw 4 alloc 17 mem 1"
            for line in text.lines() {
                let Some((protocol, rest)) = line.split_once(':') else {
                    continue;
                };
                let mut words = rest.split_ascii_whitespace();
                while let (Some(key), Some(value)) = (words.next(), words.next().and_then(float)) {
                    out.push(Kind::Gauge, &["node_sockstat_", protocol, "_", key], &[], value);
                    if key == "mem" {
                        let name = ["node_sockstat_", protocol, "_mem_bytes"];
                        out.push(Kind::Gauge, &name, &[], value * page_bytes);
                    }
                }
            }
        }
        Ok(())
    }
}
