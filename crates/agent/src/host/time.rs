//! `time`: the clock, and the clock sources of `/sys/devices/system/clocksource`. The agent's time zone is UTC.

use super::file::{KeptFile, names, numbered};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::time::{SystemTime, UNIX_EPOCH};

pub struct Time {
    sources: Vec<Source>,
}

struct Source {
    device: String,
    available: KeptFile,
    current: KeptFile,
}

impl Time {
    pub fn new(roots: &Roots) -> Self {
        let folder = roots.sys.join("devices/system/clocksource");
        let sources = names(&folder)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| numbered(name, "clocksource").map(|device| (folder.join(name), device.to_owned())))
            .map(|(folder, device)| Source {
                device,
                available: KeptFile::new(folder.join("available_clocksource")),
                current: KeptFile::new(folder.join("current_clocksource")),
            })
            .collect();
        Time { sources }
    }
}

impl Collector for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        out.gauge("node_time_seconds", &[], now.as_nanos() as f64 / 1e9);
        out.gauge("node_time_zone_offset_seconds", &[("time_zone", "UTC")], 0.0);
        for source in &mut self.sources {
            let device = source.device.as_str();
            for name in source.available.read(buffer)?.split_ascii_whitespace() {
                let labels = [("clocksource", name), ("device", device)];
                out.gauge("node_time_clocksource_available_info", &labels, 1.0);
            }
            let current = source.current.read(buffer)?;
            let labels = [("clocksource", current.trim()), ("device", device)];
            out.gauge("node_time_clocksource_current_info", &labels, 1.0);
        }
        Ok(())
    }
}
