//! `diskstats`: block devices, from `/proc/diskstats`, `/sys/block/<device>/queue/rotational` and udev's data.

use super::file::{KeptFile, float, read_attribute};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// Sectors of `/proc/diskstats` are 512 bytes whatever the device's own size is.
const SECTOR_BYTES: f64 = 512.0;
const SECONDS_PER_MILLISECOND: f64 = 1.0 / 1000.0;

/// Columns behind the device's name, in order; kernels add columns at the end.
const COLUMNS: [(&str, Kind, f64); 17] = [
    ("node_disk_reads_completed_total", Kind::Counter, 1.0),
    ("node_disk_reads_merged_total", Kind::Counter, 1.0),
    ("node_disk_read_bytes_total", Kind::Counter, SECTOR_BYTES),
    ("node_disk_read_time_seconds_total", Kind::Counter, SECONDS_PER_MILLISECOND),
    ("node_disk_writes_completed_total", Kind::Counter, 1.0),
    ("node_disk_writes_merged_total", Kind::Counter, 1.0),
    ("node_disk_written_bytes_total", Kind::Counter, SECTOR_BYTES),
    ("node_disk_write_time_seconds_total", Kind::Counter, SECONDS_PER_MILLISECOND),
    ("node_disk_io_now", Kind::Gauge, 1.0),
    ("node_disk_io_time_seconds_total", Kind::Counter, SECONDS_PER_MILLISECOND),
    ("node_disk_io_time_weighted_seconds_total", Kind::Counter, SECONDS_PER_MILLISECOND),
    ("node_disk_discards_completed_total", Kind::Counter, 1.0),
    ("node_disk_discards_merged_total", Kind::Counter, 1.0),
    ("node_disk_discarded_sectors_total", Kind::Counter, 1.0),
    ("node_disk_discard_time_seconds_total", Kind::Counter, SECONDS_PER_MILLISECOND),
    ("node_disk_flush_requests_total", Kind::Counter, 1.0),
    ("node_disk_flush_requests_time_seconds_total", Kind::Counter, SECONDS_PER_MILLISECOND),
];

pub struct DiskStats {
    file: KeptFile,
    block: PathBuf,
    udev: PathBuf,
    known: HashMap<String, Device>,
}

/// What does not change while a device stays, read again when udev rewrites its file.
struct Device {
    changed: Option<SystemTime>,
    rotational: &'static str,
    properties: HashMap<String, String>,
}

impl DiskStats {
    pub fn new(roots: &Roots) -> Self {
        DiskStats {
            file: KeptFile::new(roots.proc.join("diskstats")),
            block: roots.sys.join("block"),
            udev: roots.udev.clone(),
            known: HashMap::new(),
        }
    }
}

impl Collector for DiskStats {
    fn name(&self) -> &'static str {
        "diskstats"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let text = self.file.read(buffer)?;
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(major), Some(minor), Some(device)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            if is_ignored(device) {
                continue;
            }
            let file = self.udev.join(format!("b{major}:{minor}"));
            let changed = std::fs::metadata(&file).and_then(|metadata| metadata.modified()).ok();
            let entry = match self.known.get(device) {
                Some(known) if known.changed == changed => known,
                _ => {
                    let udev = changed.and_then(|_| std::fs::read_to_string(&file).ok()).unwrap_or_default();
                    let rotational = read_attribute(&self.block.join(device).join("queue/rotational"));
                    let fresh = Device {
                        changed,
                        rotational: if rotational.is_ok_and(|value| value == "1") { "1" } else { "0" },
                        properties: udev_properties(&udev),
                    };
                    self.known.entry(device.to_owned()).insert_entry(fresh).into_mut()
                }
            };
            entry.info(device, major, minor, out);
            for ((name, kind, factor), word) in COLUMNS.iter().zip(words) {
                let value = float(word).ok_or_else(|| {
                    CollectError::malformed("/proc/diskstats".as_ref(), "expected numbers behind the device")
                })?;
                out.push(*kind, &[name], &[("device", device)], value * factor);
            }
        }
        Ok(())
    }
}

impl Device {
    fn property(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    fn info(&self, device: &str, major: &str, minor: &str, out: &mut Samples) {
        // The serial on the disk's label first, then what SCSI, ATA and virtio devices offer instead.
        let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"]
            .map(|name| self.property(name))
            .into_iter()
            .find(|value| !value.is_empty())
            .unwrap_or_default();
        let labels = [
            ("device", device),
            ("major", major),
            ("minor", minor),
            ("model", self.property("ID_MODEL")),
            ("path", self.property("ID_PATH")),
            ("revision", self.property("ID_REVISION")),
            ("rotational", self.rotational),
            ("serial", serial),
            ("wwn", self.property("ID_WWN")),
        ];
        out.gauge("node_disk_info", &labels, 1.0);
        if !self.property("ID_FS_TYPE").is_empty() {
            let labels = [
                ("device", device),
                ("type", self.property("ID_FS_TYPE")),
                ("usage", self.property("ID_FS_USAGE")),
                ("uuid", self.property("ID_FS_UUID")),
                ("version", self.property("ID_FS_VERSION")),
            ];
            out.gauge("node_disk_filesystem_info", &labels, 1.0);
        }
        if !self.property("DM_NAME").is_empty() {
            let labels = [
                ("device", device),
                ("lv_layer", self.property("DM_LV_LAYER")),
                ("lv_name", self.property("DM_LV_NAME")),
                ("name", self.property("DM_NAME")),
                ("uuid", self.property("DM_UUID")),
                ("vg_name", self.property("DM_VG_NAME")),
            ];
            out.gauge("node_disk_device_mapper_info", &labels, 1.0);
        }
        if !self.property("ID_ATA").is_empty() {
            for (name, property) in [
                ("node_disk_ata_write_cache", "ID_ATA_WRITE_CACHE"),
                ("node_disk_ata_write_cache_enabled", "ID_ATA_WRITE_CACHE_ENABLED"),
                ("node_disk_ata_rotation_rate_rpm", "ID_ATA_ROTATION_RATE_RPM"),
            ] {
                if let Some(value) = float(self.property(property)) {
                    out.gauge(name, &[("device", device)], value);
                }
            }
        }
    }
}

/// The `E:NAME=value` lines of a file of udev's.
fn udev_properties(text: &str) -> HashMap<String, String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`: RAM disks, loops, floppies and partitions.
fn is_ignored(device: &str) -> bool {
    let stem = device.trim_end_matches(|character: char| character.is_ascii_digit());
    if stem.len() == device.len() {
        return false;
    }
    if matches!(stem, "ram" | "zram" | "loop" | "fd") {
        return true;
    }
    for disk in ["hd", "sd", "vd", "xvd"] {
        if let Some(letter) = stem.strip_prefix(disk) {
            return letter.len() == 1 && letter.as_bytes()[0].is_ascii_lowercase();
        }
    }
    let Some(numbers) = stem.strip_prefix("nvme").and_then(|rest| rest.strip_suffix('p')) else {
        return false;
    };
    numbers.split_once('n').is_some_and(|(controller, namespace)| {
        [controller, namespace].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_and_ram_disks_are_left_out() {
        for device in ["ram0", "zram1", "loop7", "fd0", "sda1", "xvda2", "vdb10", "nvme0n1p3"] {
            assert!(is_ignored(device), "{device}");
        }
        for device in ["sda", "nvme0n1", "dm-0", "md127", "sr0", "mmcblk0p2", "sdaa1", "ram"] {
            assert!(!is_ignored(device), "{device}");
        }
    }

    #[test]
    fn udev_names_the_disk() {
        let folder = tempfile::tempdir().expect("folder");
        let mut roots = Roots::new(folder.path().into(), folder.path().join("sys"), folder.path().into());
        roots.udev = folder.path().join("udev");
        std::fs::create_dir(&roots.udev).expect("folder");
        std::fs::write(folder.path().join("diskstats"), "8 0 sda 1 0 2 3\n8 1 sda1 1 0 2 3\n").expect("write");
        let udev =
            "N:sda\nE:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=1\nE:ID_SERIAL_SHORT=S1\nE:ID_FS_TYPE=ext4\nE:DM_NAME=root\n";
        std::fs::write(roots.udev.join("b8:0"), udev).expect("write");
        let mut out = Samples::default();
        DiskStats::new(&roots).collect(&mut Vec::new(), &mut out).expect("collect");
        let series: Vec<&str> = out.iter().map(|sample| sample.series).collect();
        assert_eq!(
            series,
            [
                r#"node_disk_info{device="sda",major="8",minor="0",model="",path="",revision="",rotational="0",serial="S1",wwn=""}"#,
                r#"node_disk_filesystem_info{device="sda",type="ext4",usage="",uuid="",version=""}"#,
                r#"node_disk_device_mapper_info{device="sda",lv_layer="",lv_name="",name="root",uuid="",vg_name=""}"#,
                r#"node_disk_ata_write_cache{device="sda"}"#,
                r#"node_disk_reads_completed_total{device="sda"}"#,
                r#"node_disk_reads_merged_total{device="sda"}"#,
                r#"node_disk_read_bytes_total{device="sda"}"#,
                r#"node_disk_read_time_seconds_total{device="sda"}"#,
            ]
        );
    }
}
