//! `powersupplyclass`: batteries and mains, from `/sys/class/power_supply`.

use super::file::{names, read_attribute};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;
use std::path::PathBuf;

/// File, metric suffix and the divisor that makes base units of it.
const NUMBERS: [(&str, &str, f64); 49] = [
    ("authentic", "authentic", 1.0),
    ("calibrate", "calibrate", 1.0),
    ("capacity", "capacity", 1.0),
    ("capacity_alert_max", "capacity_alert_max", 1.0),
    ("capacity_alert_min", "capacity_alert_min", 1.0),
    ("cycle_count", "cyclecount", 1.0),
    ("online", "online", 1.0),
    ("present", "present", 1.0),
    ("time_to_empty_now", "time_to_empty_seconds", 1.0),
    ("time_to_full_now", "time_to_full_seconds", 1.0),
    ("current_boot", "current_boot", 1e6),
    ("current_max", "current_max", 1e6),
    ("current_now", "current_ampere", 1e6),
    ("energy_empty", "energy_empty", 1e6),
    ("energy_empty_design", "energy_empty_design", 1e6),
    ("energy_full", "energy_full", 1e6),
    ("energy_full_design", "energy_full_design", 1e6),
    ("energy_now", "energy_watthour", 1e6),
    ("voltage_boot", "voltage_boot", 1e6),
    ("voltage_max", "voltage_max", 1e6),
    ("voltage_max_design", "voltage_max_design", 1e6),
    ("voltage_min", "voltage_min", 1e6),
    ("voltage_min_design", "voltage_min_design", 1e6),
    ("voltage_now", "voltage_volt", 1e6),
    ("voltage_ocv", "voltage_ocv", 1e6),
    ("charge_control_limit", "charge_control_limit", 1e6),
    ("charge_control_limit_max", "charge_control_limit_max", 1e6),
    ("charge_counter", "charge_counter", 1e6),
    ("charge_empty", "charge_empty", 1e6),
    ("charge_empty_design", "charge_empty_design", 1e6),
    ("charge_full", "charge_full", 1e6),
    ("charge_full_design", "charge_full_design", 1e6),
    ("charge_now", "charge_ampere", 1e6),
    ("charge_term_current", "charge_term_current", 1e6),
    ("constant_charge_current", "constant_charge_current", 1e6),
    ("constant_charge_current_max", "constant_charge_current_max", 1e6),
    ("constant_charge_voltage", "constant_charge_voltage", 1e6),
    ("constant_charge_voltage_max", "constant_charge_voltage_max", 1e6),
    ("precharge_current", "precharge_current", 1e6),
    ("input_current_limit", "input_current_limit", 1e6),
    ("power_now", "power_watt", 1e6),
    ("temp", "temp_celsius", 10.0),
    ("temp_alert_max", "temp_alert_max_celsius", 10.0),
    ("temp_alert_min", "temp_alert_min_celsius", 10.0),
    ("temp_ambient", "temp_ambient_celsius", 10.0),
    ("temp_ambient_max", "temp_ambient_max_celsius", 10.0),
    ("temp_ambient_min", "temp_ambient_min_celsius", 10.0),
    ("temp_max", "temp_max_celsius", 10.0),
    ("temp_min", "temp_min_celsius", 10.0),
];

/// Files whose text becomes a label of `node_power_supply_info` when there is any; sorted.
const LABELS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

pub struct PowerSupplyClass {
    folder: PathBuf,
}

impl PowerSupplyClass {
    pub fn new(roots: &Roots) -> Self {
        PowerSupplyClass { folder: roots.sys.join("class/power_supply") }
    }
}

impl Collector for PowerSupplyClass {
    fn name(&self) -> &'static str {
        "powersupplyclass"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for supply in names(&self.folder).map_err(|source| CollectError::read(&self.folder, source))? {
            let folder = self.folder.join(&supply);
            // One listing instead of sixty failed opens: a supply has some ten of these files.
            let present = names(&folder).unwrap_or_default();
            let read = |file: &str| {
                let is_there = present.binary_search_by(|name| name.as_str().cmp(file)).is_ok();
                is_there.then(|| read_attribute(&folder.join(file)).ok()).flatten()
            };
            for (file, name, divisor) in NUMBERS {
                if let Some(value) = read(file).and_then(|text| text.parse::<i64>().ok()) {
                    let name = ["node_power_supply_", name];
                    out.push(Kind::Gauge, &name, &[("power_supply", &supply)], value as f64 / divisor);
                }
            }
            let texts: Vec<(&str, String)> =
                LABELS.iter().filter_map(|file| read(file).map(|text| (*file, text))).collect();
            let mut labels: Vec<(&str, &str)> =
                texts.iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (*name, text.as_str())).collect();
            labels.push(("power_supply", &supply));
            labels.sort_unstable();
            out.gauge("node_power_supply_info", &labels, 1.0);
        }
        Ok(())
    }
}
