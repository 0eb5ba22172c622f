//! `cpu`: time by CPU and mode from `/proc/stat`; throttling, isolation and online state from `/sys/devices/system/cpu`.

use super::file::{KeptFile, names, numbered, read_attribute, read_number};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

/// The kernel's clock ticks per second in `/proc/stat`, 100 on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// An idle counter that goes back this far means that the CPU was taken out and put back.
const HOTPLUG_SECONDS: f64 = 3.0;
/// Columns of a `cpuN` line, in order.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const IDLE: usize = 3;

/// The highest value of each column so far: iowait and idle go back a little on real kernels, counters must not.
type Columns = [f64; 10];

pub struct Cpu {
    stat: KeptFile,
    folder: PathBuf,
    seen: BTreeMap<u32, Columns>,
    isolated: Vec<u32>,
    throttles: Option<Vec<Throttle>>,
    online: Option<Vec<(String, KeptFile)>>,
}

/// Where a CPU belongs, and where its throttle counts are.
struct Throttle {
    package: u64,
    core: u64,
    core_count: PathBuf,
    package_count: PathBuf,
}

impl Cpu {
    pub fn new(roots: &Roots) -> Self {
        let folder = roots.sys.join("devices/system/cpu");
        let isolated = read_attribute(&folder.join("isolated")).map(|list| cpu_list(&list)).unwrap_or_default();
        Cpu {
            stat: KeptFile::new(roots.proc.join("stat")),
            folder,
            seen: BTreeMap::new(),
            isolated,
            throttles: None,
            online: None,
        }
    }

    fn times(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let text = self.stat.read(buffer)?;
        let mut present = 0;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("cpu") else {
                // The CPU lines come first; interrupt counts, which can be long, follow.
                break;
            };
            let mut words = rest.split_ascii_whitespace();
            let Some(number) = rest.as_bytes().first().filter(|byte| byte.is_ascii_digit()).and_then(|_| words.next())
            else {
                continue;
            };
            let id: u32 =
                number.parse().map_err(|_| CollectError::malformed("/proc/stat".as_ref(), "expected a CPU number"))?;
            let mut columns: Columns = [0.0; 10];
            for column in &mut columns {
                let Some(word) = words.next() else {
                    break;
                };
                let ticks: u64 =
                    word.parse().map_err(|_| CollectError::malformed("/proc/stat".as_ref(), "expected ticks"))?;
                *column = ticks as f64 / TICKS_PER_SECOND;
            }
            present += 1;
            let kept = self.seen.entry(id).or_insert([0.0; 10]);
            if kept[IDLE] - columns[IDLE] >= HOTPLUG_SECONDS {
                *kept = [0.0; 10];
            }
            for (highest, now) in kept.iter_mut().zip(columns) {
                *highest = highest.max(now);
            }
            for (mode, seconds) in MODES.iter().zip(&kept[..8]) {
                out.counter("node_cpu_seconds_total", &[("cpu", number), ("mode", mode)], *seconds);
            }
            for (mode, seconds) in GUEST_MODES.iter().zip(&kept[8..]) {
                out.counter("node_cpu_guest_seconds_total", &[("cpu", number), ("mode", mode)], *seconds);
            }
        }
        if present != self.seen.len() {
            // A CPU went offline: start again with those that are there, next time.
            self.seen.clear();
        }
        Ok(())
    }

    fn throttling(&mut self, out: &mut Samples) {
        // Which CPU sits where does not change while the machine runs; virtual machines have no counts at all.
        let folder = &self.folder;
        let throttles = self.throttles.get_or_insert_with(|| find_throttles(folder));
        let mut packages: BTreeMap<u64, u64> = BTreeMap::new();
        let mut cores: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for throttle in throttles.iter() {
            // Siblings share their core's and their package's count: it is read once.
            if let Entry::Vacant(vacant) = cores.entry((throttle.package, throttle.core))
                && let Ok(count) = read_number(&throttle.core_count)
            {
                vacant.insert(count);
            }
            if let Entry::Vacant(vacant) = packages.entry(throttle.package)
                && let Ok(count) = read_number(&throttle.package_count)
            {
                vacant.insert(count);
            }
        }
        for (package, count) in packages {
            let package = package.to_string();
            out.counter("node_cpu_package_throttles_total", &[("package", &package)], count as f64);
        }
        for ((package, core), count) in cores {
            let (core, package) = (core.to_string(), package.to_string());
            out.counter("node_cpu_core_throttles_total", &[("core", &core), ("package", &package)], count as f64);
        }
    }

    fn online(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) {
        let folder = &self.folder;
        let online = self.online.get_or_insert_with(|| find_online(folder));
        for (number, file) in online {
            let is_online = file.read(buffer).is_ok_and(|text| text.trim() == "1");
            out.gauge("node_cpu_online", &[("cpu", number)], f64::from(u8::from(is_online)));
        }
    }
}

impl Collector for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        self.times(buffer, out)?;
        for cpu in &self.isolated {
            out.gauge("node_cpu_isolated", &[("cpu", &cpu.to_string())], 1.0);
        }
        self.throttling(out);
        self.online(buffer, out);
        Ok(())
    }
}

fn find_throttles(folder: &Path) -> Vec<Throttle> {
    let mut found = Vec::new();
    for name in names(folder).unwrap_or_default() {
        let cpu = folder.join(&name);
        if numbered(&name, "cpu").is_none() || !cpu.join("thermal_throttle").is_dir() {
            continue;
        }
        let (Ok(package), Ok(core)) =
            (read_number(&cpu.join("topology/physical_package_id")), read_number(&cpu.join("topology/core_id")))
        else {
            continue;
        };
        found.push(Throttle {
            package,
            core,
            core_count: cpu.join("thermal_throttle/core_throttle_count"),
            package_count: cpu.join("thermal_throttle/package_throttle_count"),
        });
    }
    found
}

/// No file for the first CPU means that this kernel cannot take CPUs out, and nothing is said, as in node_exporter.
fn find_online(folder: &Path) -> Vec<(String, KeptFile)> {
    if !folder.join("cpu0/online").exists() {
        return Vec::new();
    }
    names(folder)
        .unwrap_or_default()
        .iter()
        .filter_map(|name| numbered(name, "cpu"))
        .map(|number| (number.to_owned(), KeptFile::new(folder.join(format!("cpu{number}/online")))))
        .collect()
}

/// `1,3-5` is 1, 3, 4, 5.
fn cpu_list(list: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            // The kernel's largest machines have 8,192 CPUs.
            cpus.extend(first..=last.min(first.saturating_add(8192)));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_have_ranges() {
        assert_eq!(cpu_list("1,3-5,9\n"), [1, 3, 4, 5, 9]);
        assert_eq!(cpu_list("\n"), [] as [u32; 0]);
    }

    #[test]
    fn counters_do_not_go_back_but_a_replugged_cpu_starts_again() {
        let folder = tempfile::tempdir().expect("folder");
        let roots = Roots::new(folder.path().into(), folder.path().join("sys"), folder.path().into());
        let mut cpu = Cpu::new(&roots);
        let mut read = |line: &str| {
            std::fs::write(folder.path().join("stat"), line).expect("write");
            let mut out = Samples::default();
            cpu.collect(&mut Vec::new(), &mut out).expect("collect");
            out.iter().find(|sample| sample.series.contains("mode=\"iowait\"")).map(|sample| sample.value)
        };
        assert_eq!(read("cpu  1 1 1 1\ncpu0 100 0 0 1000 50 0 0 0 0 0\n"), Some(0.5));
        assert_eq!(read("cpu0 100 0 0 1000 40 0 0 0 0 0\n"), Some(0.5));
        assert_eq!(read("cpu0 100 0 0 600 40 0 0 0 0 0\n"), Some(0.4));
    }
}
