//! `cpufreq`: frequencies and governors, from `/sys/devices/system/cpu/cpu*/cpufreq`, which speaks of kHz.

use super::file::{names, numbered, read_attribute};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::path::PathBuf;

const FREQUENCIES: [(&str, &str); 7] = [
    ("cpuinfo_cur_freq", "node_cpu_frequency_hertz"),
    ("cpuinfo_avg_freq", "node_cpu_frequency_avg_hertz"),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz"),
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz"),
    ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz"),
    ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz"),
    ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz"),
];

pub struct CpuFreq {
    folder: PathBuf,
}

impl CpuFreq {
    pub fn new(roots: &Roots) -> Self {
        CpuFreq { folder: roots.sys.join("devices/system/cpu") }
    }
}

impl Collector for CpuFreq {
    fn name(&self) -> &'static str {
        "cpufreq"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        // Machines without frequency scaling have no such folder, and need not be searched CPU by CPU.
        let all = names(&self.folder).map_err(|source| CollectError::read(&self.folder, source))?;
        let mut found = false;
        for name in &all {
            let Some(number) = numbered(name, "cpu") else {
                continue;
            };
            let cpu = self.folder.join(name).join("cpufreq");
            if !cpu.is_dir() {
                continue;
            }
            found = true;
            for (file, metric) in FREQUENCIES {
                if let Some(kilohertz) = read_attribute(&cpu.join(file)).ok().and_then(|text| text.parse::<u64>().ok())
                {
                    out.gauge(metric, &[("cpu", number)], kilohertz as f64 * 1000.0);
                }
            }
            let governor = read_attribute(&cpu.join("scaling_governor")).unwrap_or_default();
            if governor.is_empty() {
                continue;
            }
            let available = read_attribute(&cpu.join("scaling_available_governors")).unwrap_or_default();
            for one in available.split(' ') {
                let in_force = f64::from(u8::from(one == governor));
                out.gauge("node_cpu_scaling_governor", &[("cpu", number), ("governor", one)], in_force);
            }
        }
        if found { Ok(()) } else { Err(CollectError::NoData) }
    }
}
