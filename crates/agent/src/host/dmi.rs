//! `dmi`: what the firmware says of the machine, from `/sys/class/dmi/id`; read once, it cannot change before a reboot.

use super::file::read_attribute;
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

/// Labels, sorted, and the files they come from.
const FIELDS: [(&str, &str); 20] = [
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("system_vendor", "sys_vendor"),
];

pub struct Dmi {
    labels: Vec<(&'static str, String)>,
}

impl Dmi {
    pub fn new(roots: &Roots) -> Self {
        let folder = roots.sys.join("class/dmi/id");
        // Serial numbers are readable by root only; what cannot be read is left out.
        let labels = FIELDS
            .into_iter()
            .filter_map(|(label, file)| read_attribute(&folder.join(file)).ok().map(|value| (label, value)))
            .collect();
        Dmi { labels }
    }
}

impl Collector for Dmi {
    fn name(&self) -> &'static str {
        "dmi"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        if self.labels.is_empty() {
            return Err(CollectError::NoData);
        }
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        out.gauge("node_dmi_info", &labels, 1.0);
        Ok(())
    }
}
