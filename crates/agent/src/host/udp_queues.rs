//! `udp_queues`: bytes that wait in UDP sockets, from `/proc/net/udp` and `/proc/net/udp6`.

use super::file::KeptFile;
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

pub struct UdpQueues {
    files: [(&'static str, KeptFile); 2],
}

impl UdpQueues {
    pub fn new(roots: &Roots) -> Self {
        let file = |name: &str| KeptFile::new(roots.proc.join("net").join(name));
        UdpQueues { files: [("v4", file("udp")), ("v6", file("udp6"))] }
    }
}

impl Collector for UdpQueues {
    fn name(&self) -> &'static str {
        "udp_queues"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let mut found = false;
        for (version, file) in &mut self.files {
            let text = match file.read(buffer) {
                Ok(text) => text,
                Err(CollectError::NoData) => continue,
                Err(other) => return Err(other),
            };
            found = true;
            let (mut sent, mut received) = (0_u64, 0_u64);
            for line in text.lines().skip(1) {
                // The fifth column is tx_queue:rx_queue, hexadecimal.
                let queues = line.split_ascii_whitespace().nth(4).and_then(|word| word.split_once(':'));
                let Some((tx, rx)) = queues else {
                    continue;
                };
                sent += u64::from_str_radix(tx, 16).unwrap_or(0);
                received += u64::from_str_radix(rx, 16).unwrap_or(0);
            }
            out.gauge("node_udp_queues", &[("ip", version), ("queue", "tx")], sent as f64);
            out.gauge("node_udp_queues", &[("ip", version), ("queue", "rx")], received as f64);
        }
        if found { Ok(()) } else { Err(CollectError::NoData) }
    }
}
