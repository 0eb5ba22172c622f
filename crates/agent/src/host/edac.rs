//! `edac`: memory errors by controller, row and channel, from `/sys/devices/system/edac/mc`.

use super::file::{names, numbered, read_attribute, read_number};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::path::{Path, PathBuf};

pub struct Edac {
    folder: PathBuf,
}

impl Edac {
    pub fn new(roots: &Roots) -> Self {
        Edac { folder: roots.sys.join("devices/system/edac/mc") }
    }
}

impl Collector for Edac {
    fn name(&self) -> &'static str {
        "edac"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        // No folder, no controllers: success without samples, as node_exporter's glob gives.
        for name in names(&self.folder).unwrap_or_default() {
            let Some(controller) = numbered(&name, "mc") else {
                continue;
            };
            let folder = self.folder.join(&name);
            let one = [("controller", controller)];
            let unknown = [("controller", controller), ("csrow", "unknown")];
            out.counter("node_edac_correctable_errors_total", &one, number(&folder, "ce_count")?);
            out.counter("node_edac_csrow_correctable_errors_total", &unknown, number(&folder, "ce_noinfo_count")?);
            out.counter("node_edac_uncorrectable_errors_total", &one, number(&folder, "ue_count")?);
            out.counter("node_edac_csrow_uncorrectable_errors_total", &unknown, number(&folder, "ue_noinfo_count")?);
            for row in names(&folder).unwrap_or_default() {
                if let Some(csrow) = numbered(&row, "csrow") {
                    collect_row(&folder.join(&row), controller, csrow, out)?;
                }
            }
        }
        Ok(())
    }
}

fn collect_row(folder: &Path, controller: &str, csrow: &str, out: &mut Samples) -> Result<(), CollectError> {
    let labels = [("controller", controller), ("csrow", csrow)];
    out.counter("node_edac_csrow_correctable_errors_total", &labels, number(folder, "ce_count")?);
    out.counter("node_edac_csrow_uncorrectable_errors_total", &labels, number(folder, "ue_count")?);
    for name in names(folder).unwrap_or_default() {
        let Some(channel) = name.strip_suffix("_ce_count").and_then(|start| numbered(start, "ch")) else {
            continue;
        };
        let dimm = match read_attribute(&folder.join(format!("ch{channel}_dimm_label"))) {
            Ok(label) => label.replace('#', "").replace("csrow", "_csrow").replace("channel", "_channel"),
            Err(_) => "unknown".to_owned(),
        };
        let labels =
            [("channel", channel), ("controller", controller), ("csrow", csrow), ("dimm_label", dimm.as_str())];
        out.counter("node_edac_channel_correctable_errors_total", &labels, number(folder, &name)?);
        if let Ok(count) = read_number(&folder.join(format!("ch{channel}_ue_count"))) {
            out.counter("node_edac_channel_uncorrectable_errors_total", &labels, count as f64);
        }
    }
    Ok(())
}

fn number(folder: &Path, file: &str) -> Result<f64, CollectError> {
    let path = folder.join(file);
    read_number(&path).map(|count| count as f64).map_err(|source| CollectError::Read { path, source })
}
