//! `rapl`: energy counters of processors, from `/sys/class/powercap`. Mostly readable by root only.

use super::file::{names, read_attribute, read_number};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

const MICROJOULES_PER_JOULE: f64 = 1_000_000.0;

pub struct Rapl {
    folder: PathBuf,
}

impl Rapl {
    pub fn new(roots: &Roots) -> Self {
        Rapl { folder: roots.sys.join("class/powercap") }
    }
}

impl Collector for Rapl {
    fn name(&self) -> &'static str {
        "rapl"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let mut used: HashMap<String, u32> = HashMap::new();
        for entry in names(&self.folder).map_err(|source| CollectError::read(&self.folder, source))? {
            let path = self.folder.join(&entry);
            let Ok(name) = read_attribute(&path.join("name")) else {
                continue;
            };
            // "package-1" carries its number; of several called "dram" the second is number 1.
            let parts: Vec<&str> = name.split('-').collect();
            let (zone, index) = match parts[..] {
                [zone, number] if number.parse::<u32>().is_ok() => (zone.to_owned(), number.parse().unwrap_or(0)),
                _ => (name.clone(), used.get(&name).copied().unwrap_or(0)),
            };
            used.insert(zone.clone(), index + 1);
            let file = path.join("energy_uj");
            let energy = match read_number(&file) {
                Ok(energy) => energy,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(CollectError::NoData),
                Err(source) => return Err(CollectError::read(&file, source)),
            };
            let metric = zone.replace(|character: char| !character.is_ascii_alphanumeric(), "_");
            let (index, path) = (index.to_string(), path.to_string_lossy());
            let labels = [("index", index.as_str()), ("path", &path)];
            let name = ["node_rapl_", &metric, "_joules_total"];
            out.push(Kind::Counter, &name, &labels, energy as f64 / MICROJOULES_PER_JOULE);
        }
        Ok(())
    }
}
