//! `nvme`: controllers and namespaces, from `/sys/class/nvme`.

use super::file::{names, numbered, read_attribute};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::path::{Path, PathBuf};

pub struct Nvme {
    folder: PathBuf,
}

impl Nvme {
    pub fn new(roots: &Roots) -> Self {
        Nvme { folder: roots.sys.join("class/nvme") }
    }
}

impl Collector for Nvme {
    fn name(&self) -> &'static str {
        "nvme"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let devices = names(&self.folder).map_err(|source| CollectError::read(&self.folder, source))?;
        for device in devices {
            let folder = self.folder.join(&device);
            let text = |file: &str| attribute(&folder, file);
            let (controller, firmware, model, serial, state) =
                (text("cntlid")?, text("firmware_rev")?, text("model")?, text("serial")?, text("state")?);
            let labels = [
                ("cntlid", controller.as_str()),
                ("device", &device),
                ("firmware_revision", &firmware),
                ("model", &model),
                ("serial", &serial),
                ("state", &state),
            ];
            out.gauge("node_nvme_info", &labels, 1.0);
            for name in names(&folder).unwrap_or_default() {
                if let Some(id) = namespace_id(&name, &device) {
                    collect_namespace(&folder.join(&name), &device, id, out)?;
                }
            }
        }
        Ok(())
    }
}

/// `nvme0n1` or, with multipath, `nvme0c0n1` of the device `nvme0` is namespace 1.
fn namespace_id<'n>(name: &'n str, device: &str) -> Option<&'n str> {
    let rest = name.strip_prefix(device)?;
    let rest = match rest.strip_prefix('c') {
        Some(path) => &path[path.find('n')?..],
        None => rest,
    };
    numbered(rest, "n")
}

fn collect_namespace(folder: &Path, device: &str, id: &str, out: &mut Samples) -> Result<(), CollectError> {
    let number = |file: &str| attribute(folder, file).map(|text| text.parse::<u64>().unwrap_or(0));
    let block = number("queue/logical_block_size")?;
    let (used, size) = (number("nuse")?, number("size")?);
    let state = attribute(folder, "ana_state").unwrap_or_else(|_| "unknown".to_owned());
    out.gauge("node_nvme_namespace_info", &[("ana_state", &state), ("device", device), ("nsid", id)], 1.0);
    let labels = [("device", device), ("nsid", id)];
    out.gauge("node_nvme_namespace_capacity_bytes", &labels, size as f64 * block as f64);
    out.gauge("node_nvme_namespace_size_bytes", &labels, size as f64 * block as f64);
    out.gauge("node_nvme_namespace_used_bytes", &labels, used as f64 * block as f64);
    out.gauge("node_nvme_namespace_logical_block_size_bytes", &labels, block as f64);
    Ok(())
}

fn attribute(folder: &Path, file: &str) -> Result<String, CollectError> {
    let path = folder.join(file);
    read_attribute(&path).map_err(|source| CollectError::Read { path, source })
}

#[cfg(test)]
mod tests {
    use super::namespace_id;

    #[test]
    fn namespaces_are_known_by_their_names() {
        assert_eq!(namespace_id("nvme0n1", "nvme0"), Some("1"));
        assert_eq!(namespace_id("nvme0c1n2", "nvme0"), Some("2"));
        assert_eq!(namespace_id("hwmon3", "nvme0"), None);
    }
}
