//! `thermal_zone`: temperatures and cooling devices, from `/sys/class/thermal`.

use super::file::{names, numbered, read_attribute};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::path::PathBuf;

const MILLIDEGREES_PER_DEGREE: f64 = 1000.0;

pub struct ThermalZone {
    folder: PathBuf,
}

impl ThermalZone {
    pub fn new(roots: &Roots) -> Self {
        ThermalZone { folder: roots.sys.join("class/thermal") }
    }
}

impl Collector for ThermalZone {
    fn name(&self) -> &'static str {
        "thermal_zone"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        // No folder: success without samples, as node_exporter's glob gives.
        for name in names(&self.folder).unwrap_or_default() {
            let folder = self.folder.join(&name);
            let text = |file: &str| read_attribute(&folder.join(file)).ok();
            let number = |file: &str| text(file).and_then(|value| value.parse::<i64>().ok());
            if let Some(zone) = numbered(&name, "thermal_zone") {
                // A sensor that is switched off answers with an error: left out.
                if let (Some(kind), Some(temperature)) = (text("type"), number("temp")) {
                    let labels = [("type", kind.as_str()), ("zone", zone)];
                    out.gauge("node_thermal_zone_temp", &labels, temperature as f64 / MILLIDEGREES_PER_DEGREE);
                }
            } else if let Some(device) = numbered(&name, "cooling_device")
                && let (Some(kind), Some(current), Some(most)) =
                    (text("type"), number("cur_state"), number("max_state"))
            {
                let labels = [("name", device), ("type", kind.as_str())];
                out.gauge("node_cooling_device_cur_state", &labels, current as f64);
                out.gauge("node_cooling_device_max_state", &labels, most as f64);
            }
        }
        Ok(())
    }
}
