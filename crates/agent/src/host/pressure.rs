//! `pressure`: time lost waiting for CPU, IO and memory, from `/proc/pressure` (PSI, Linux 4.20).

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;

const MICROSECONDS_PER_MILLISECOND: f64 = 1000.0;

/// One resource: its file, and the metrics of its `some` and `full` lines.
struct Resource {
    file: KeptFile,
    some: Option<&'static str>,
    full: Option<&'static str>,
}

pub struct Pressure {
    resources: [Resource; 4],
}

impl Pressure {
    pub fn new(roots: &Roots) -> Self {
        let resource = |name: &str, some, full| Resource {
            file: KeptFile::new(roots.proc.join("pressure").join(name)),
            some,
            full,
        };
        Pressure {
            resources: [
                resource("cpu", Some("node_pressure_cpu_waiting_seconds_total"), None),
                resource(
                    "io",
                    Some("node_pressure_io_waiting_seconds_total"),
                    Some("node_pressure_io_stalled_seconds_total"),
                ),
                resource(
                    "memory",
                    Some("node_pressure_memory_waiting_seconds_total"),
                    Some("node_pressure_memory_stalled_seconds_total"),
                ),
                resource("irq", None, Some("node_pressure_irq_stalled_seconds_total")),
            ],
        }
    }
}

impl Collector for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let mut found = false;
        for resource in &mut self.resources {
            let text = match resource.file.read(buffer) {
                Ok(text) => text,
                Err(CollectError::NoData) => continue,
                // Compiled in, but switched off at boot: reading says "not supported".
                Err(CollectError::Read { source, .. }) if source.kind() == std::io::ErrorKind::Unsupported => {
                    return Err(CollectError::NoData);
                }
                Err(other) => return Err(other),
            };
            for line in text.lines() {
                let (Some(what), Some(total)) = (line.split(' ').next(), line.rsplit_once("total=")) else {
                    continue;
                };
                let name = if what == "some" { resource.some } else { resource.full };
                if let (Some(name), Some(microseconds)) = (name, float(total.1)) {
                    found = true;
                    // Twice by a thousand, as node_exporter divides: the last digit depends on it.
                    out.counter(name, &[], microseconds / MICROSECONDS_PER_MILLISECOND / 1000.0);
                }
            }
        }
        if found { Ok(()) } else { Err(CollectError::NoData) }
    }
}
