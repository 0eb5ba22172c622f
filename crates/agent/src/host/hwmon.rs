//! `hwmon`: sensors of chips, from `/sys/class/hwmon` (kernel: Documentation/hwmon/sysfs-interface.rst).

use super::file::{names, read_attribute_untrimmed, to_valid_utf8};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const SENSOR_TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// Properties by sensor, e.g. `temp1` -> `input` -> `55000`.
type Sensors = BTreeMap<String, BTreeMap<String, String>>;

pub struct HwMon {
    folder: PathBuf,
}

/// One chip's folder and what names it.
struct Chip {
    folder: PathBuf,
    base: String,
    name_file: String,
}

impl HwMon {
    pub fn new(roots: &Roots) -> Self {
        HwMon { folder: roots.sys.join("class/hwmon") }
    }
}

impl Collector for HwMon {
    fn name(&self) -> &'static str {
        "hwmon"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let mut chips = Vec::new();
        let (mut by_base, mut by_both) = (HashMap::new(), HashMap::new());
        for entry in names(&self.folder).map_err(|source| CollectError::read(&self.folder, source))? {
            let folder = self.folder.join(&entry);
            if !folder.is_dir() {
                continue;
            }
            let Some(base) = chip_name(&folder) else {
                continue;
            };
            let name_file = read_attribute_untrimmed(&folder.join("name")).unwrap_or_default().trim().to_owned();
            *by_base.entry(base.clone()).or_insert(0_u32) += 1;
            *by_both.entry((base.clone(), name_file.clone())).or_insert(0_u32) += 1;
            chips.push(Chip { folder, base, name_file });
        }
        for chip in chips {
            let mut name = chip.base.clone();
            if by_base[&chip.base] > 1 {
                // Two chips of one device: told apart by their names, or else by their numbers.
                let mut suffix = clean(&chip.name_file);
                if suffix.is_empty() || by_both[&(chip.base.clone(), chip.name_file.clone())] > 1 {
                    suffix = clean(&file_name(&chip.folder));
                }
                name = format!("{name}_{suffix}");
            }
            collect_chip(&chip.folder, &name, out);
        }
        Ok(())
    }
}

fn collect_chip(folder: &Path, chip: &str, out: &mut Samples) {
    let mut sensors = Sensors::new();
    read_sensors(folder, &mut sensors);
    read_sensors(&folder.join("device"), &mut sensors);
    let human = read_attribute_untrimmed(&folder.join("name")).map(|name| clean(&name)).unwrap_or_default();
    if !human.is_empty() {
        out.gauge("node_hwmon_chip_names", &[("chip", chip), ("chip_name", &human)], 1.0);
    }
    for (sensor, properties) in &sensors {
        let Some((kind, _, _)) = explode(sensor) else {
            continue;
        };
        if let Some(label) = properties.get("label") {
            let label = to_valid_utf8(label.as_bytes());
            let labels = [("chip", chip), ("label", &*label), ("sensor", sensor.as_str())];
            out.gauge("node_hwmon_sensor_label", &labels, 1.0);
        }
        let labels = [("chip", chip), ("sensor", sensor.as_str())];
        let own = properties.get("").map_or("", String::as_str);
        match kind {
            "beep_enable" => {
                out.gauge("node_hwmon_beep_enabled", &labels, f64::from(u8::from(own == "1")));
            }
            "vrm" => {
                if let Ok(value) = own.parse() {
                    out.gauge("node_hwmon_voltage_regulator_version", &labels, value);
                }
            }
            "update_interval" => {
                if let Ok(value) = own.parse::<f64>() {
                    out.gauge("node_hwmon_update_interval_seconds", &labels, value * 0.001);
                }
            }
            _ => collect_sensor(chip, sensor, kind, properties, out),
        }
    }
}

fn collect_sensor(chip: &str, sensor: &str, kind: &str, properties: &BTreeMap<String, String>, out: &mut Samples) {
    let labels = [("chip", chip), ("sensor", sensor)];
    for (element, text) in properties.iter().filter(|(element, _)| *element != "label") {
        let Ok(value) = text.parse::<f64>() else {
            continue;
        };
        let suffix = match element.as_str() {
            // The input is the value itself, unless there is a file without a property too.
            "input" if properties.contains_key("") => "_input".to_owned(),
            "input" | "" => String::new(),
            other => format!("_{}", clean(other)),
        };
        let (unit, value, metric_kind) = match (kind, element.as_str()) {
            (_, "fault" | "alarm") => ("", value, Kind::Gauge),
            (_, "beep") => ("_enabled", value, Kind::Gauge),
            ("in" | "cpu", _) => ("_volts", value * 0.001, Kind::Gauge),
            ("temp", element) if element != "type" => ("_celsius", value * 0.001, Kind::Gauge),
            ("curr", _) => ("_amps", value * 0.001, Kind::Gauge),
            ("energy", _) => ("_joule_total", value / 1_000_000.0, Kind::Counter),
            ("power", "accuracy") => ("", value / 1_000_000.0, Kind::Gauge),
            ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
                ("_seconds", value * 0.001, Kind::Gauge)
            }
            ("power", _) => ("_watt", value / 1_000_000.0, Kind::Gauge),
            ("humidity", _) => ("", value / 1_000_000.0, Kind::Gauge),
            ("fan", "input" | "min" | "max" | "target") => ("_rpm", value, Kind::Gauge),
            ("freq", "input") => {
                if let Some(label) = properties.get("label") {
                    let name = ["node_hwmon_", kind, &suffix, "_freq_mhz"];
                    let labels = [("chip", chip), ("sensor", &*clean(label))];
                    out.push(Kind::Gauge, &name, &labels, value / 1_000_000.0);
                }
                continue;
            }
            _ => ("", value, Kind::Gauge),
        };
        out.push(metric_kind, &["node_hwmon_", kind, &suffix, unit], &labels, value);
    }
}

fn read_sensors(folder: &Path, sensors: &mut Sensors) {
    for file in names(folder).unwrap_or_default() {
        let Some((kind, number, property)) = explode(&file) else {
            continue;
        };
        if !SENSOR_TYPES.contains(&kind) {
            continue;
        }
        if let Ok(text) = read_attribute_untrimmed(&folder.join(&file)) {
            let properties = sensors.entry(format!("{kind}{number}")).or_default();
            properties.insert(property.to_owned(), text.trim_matches('\n').to_owned());
        }
    }
}

/// `temp1_max` is (`temp`, 1, `max`): `^([^0-9]+)([0-9]*)?(_(.+))?$`, greedy, so that a name without a number is one type.
fn explode(name: &str) -> Option<(&str, u64, &str)> {
    let digits = name.bytes().position(|byte| byte.is_ascii_digit());
    let Some(start) = digits else {
        return (!name.is_empty()).then_some((name, 0, ""));
    };
    if start == 0 {
        return None;
    }
    let rest = &name[start..];
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    let property = match &rest[end..] {
        "" => "",
        behind => behind.strip_prefix('_').filter(|property| !property.is_empty())?,
    };
    Some((&name[..start], rest[..end].parse().ok()?, property))
}

/// The device's place in the machine names a chip for good; its number depends on the order of loading.
fn chip_name(folder: &Path) -> Option<String> {
    if let Ok(device) = folder.join("device").canonicalize() {
        let kind = clean(&device.parent().map(file_name).unwrap_or_default());
        let name = clean(&file_name(&device));
        if !kind.is_empty() && !name.is_empty() {
            return Some(format!("{kind}_{name}"));
        }
        if !name.is_empty() {
            return Some(name);
        }
    }
    if let Ok(name) = read_attribute_untrimmed(&folder.join("name")) {
        let name = clean(&name);
        if !name.is_empty() {
            return Some(name);
        }
    }
    let real = folder.canonicalize().ok()?;
    Some(clean(&file_name(&real))).filter(|name| !name.is_empty())
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Lower case, everything but letters, digits, `:` and `_` an underscore, none of them at the ends.
fn clean(name: &str) -> String {
    let lower = name.to_lowercase();
    let replaced: String = lower
        .chars()
        .map(|character| match character {
            'a'..='z' | '0'..='9' | ':' | '_' => character,
            _ => '_',
        })
        .collect();
    replaced.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_taken_apart() {
        assert_eq!(explode("temp1_max"), Some(("temp", 1, "max")));
        assert_eq!(explode("pwm1"), Some(("pwm", 1, "")));
        assert_eq!(explode("beep_enable"), Some(("beep_enable", 0, "")));
        assert_eq!(explode("pwm1_auto_point2_temp"), Some(("pwm", 1, "auto_point2_temp")));
        assert_eq!(explode("1temp"), None);
        assert_eq!(explode("temp1x"), None);
    }
}
