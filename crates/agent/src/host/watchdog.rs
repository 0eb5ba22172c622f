//! `watchdog`: hardware and software watchdogs, from `/sys/class/watchdog`.

use super::file::{names, read_attribute};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::path::PathBuf;

const NUMBERS: [(&str, &str); 7] = [
    ("bootstatus", "node_watchdog_bootstatus"),
    ("fw_version", "node_watchdog_fw_version"),
    ("nowayout", "node_watchdog_nowayout"),
    ("timeleft", "node_watchdog_timeleft_seconds"),
    ("timeout", "node_watchdog_timeout_seconds"),
    ("pretimeout", "node_watchdog_pretimeout_seconds"),
    ("access_cs0", "node_watchdog_access_cs0"),
];

pub struct Watchdog {
    folder: PathBuf,
}

impl Watchdog {
    pub fn new(roots: &Roots) -> Self {
        Watchdog { folder: roots.sys.join("class/watchdog") }
    }
}

impl Collector for Watchdog {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for name in names(&self.folder).map_err(|source| CollectError::read(&self.folder, source))? {
            let folder = self.folder.join(&name);
            let text = |file: &str| read_attribute(&folder.join(file)).unwrap_or_default();
            for (file, metric) in NUMBERS {
                if let Ok(value) = text(file).parse::<i64>() {
                    out.gauge(metric, &[("name", &name)], value as f64);
                }
            }
            let (identity, options, governor, state, status) =
                (text("identity"), text("options"), text("pretimeout_governor"), text("state"), text("status"));
            let labels = [
                ("identity", identity.as_str()),
                ("name", &name),
                ("options", &options),
                ("pretimeout_governor", &governor),
                ("state", &state),
                ("status", &status),
            ];
            out.gauge("node_watchdog_info", &labels, 1.0);
        }
        Ok(())
    }
}
