//! The machine's own metrics, byte for byte under node_exporter 1.12's names, labels and types.
//!
//! One file per collector, named as node_exporter names it. Files of `/proc` that are read each time keep their
//! descriptor and are read by `pread` into one buffer; the network comes from one netlink dump. What is read where,
//! and why that is fast: `design/collector.md` sections 3 and 5.
//!
//! A collector that fails or finds nothing sets `node_scrape_collector_success` to 0 and leaves no sample behind,
//! exactly as node_exporter does; it never fails the collection.

mod arp;
mod bonding;
mod conntrack;
mod cpu;
mod cpufreq;
mod diskstats;
mod dmi;
mod edac;
mod entropy;
mod file;
mod filefd;
mod filesystem;
mod hwmon;
mod kernel_hung;
mod links;
mod loadavg;
mod mdadm;
mod meminfo;
mod netclass;
mod netdev;
mod netlink;
mod netstat;
mod nvme;
mod os;
mod powersupplyclass;
mod pressure;
mod rapl;
mod schedstat;
mod selinux;
mod sockstat;
mod softnet;
mod stat;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;

use crate::samples::Samples;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;
pub use textfile::kind_of;

/// Version of node_exporter whose names these are, for `node_exporter_build_info`.
pub const NODE_EXPORTER_VERSION: &str = "1.12.1";

/// Where the host's files are. In a container they are mounted elsewhere than at `/`.
#[derive(Clone, Debug)]
pub struct Roots {
    pub proc: PathBuf,
    pub sys: PathBuf,
    pub root: PathBuf,
    /// Where udev keeps what it knows of block devices.
    pub udev: PathBuf,
    /// Folder with `*.prom` files of others, if there is one.
    pub textfile: Option<PathBuf>,
}

impl Roots {
    pub fn new(proc: PathBuf, sys: PathBuf, root: PathBuf) -> Self {
        let udev = root.join("run/udev/data");
        Roots { proc, sys, root, udev, textfile: None }
    }
}

impl Default for Roots {
    fn default() -> Self {
        Roots::new("/proc".into(), "/sys".into(), "/".into())
    }
}

/// Where facts about network devices come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkSource {
    /// One `RTM_GETLINK` dump of this process's network namespace.
    Netlink,
    /// `/proc/net/dev` and `/sys/class/net`, e.g. of a recorded machine.
    Files,
}

/// What to collect, beyond node_exporter's defaults.
#[derive(Clone, Debug)]
pub struct Options {
    pub roots: Roots,
    pub network: NetworkSource,
    /// Devices that `netclass` and `netdev` leave out, besides none: exact names.
    pub ignored_devices: Vec<String>,
    /// Softirq counts by vector, off by default as in node_exporter.
    pub softirqs: bool,
    /// Leave out what kube-prometheus leaves out on nodes of a cluster: devices and mounts of pods, and `hwmon`.
    pub in_cluster: bool,
}

impl Options {
    /// Netlink where the given `/proc` is this kernel's, files where it is a recording.
    pub fn for_roots(roots: Roots) -> Self {
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        let given = std::fs::read_link(roots.proc.join("self/ns/net")).ok();
        let network = if own.is_some() && own == given { NetworkSource::Netlink } else { NetworkSource::Files };
        Options { roots, network, ignored_devices: Vec::new(), softirqs: false, in_cluster: false }
    }
}

/// Why a collector has no samples this time.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// This machine has no such thing; normal.
    #[error("nothing to collect on this machine")]
    NoData,
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not in the form that the kernel documents: {what}", path.display())]
    Malformed { path: PathBuf, what: &'static str },
    #[error("netlink request failed while {doing}")]
    Netlink {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

impl CollectError {
    /// A failed read; a file that is not there means that there is nothing to collect.
    fn read(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => CollectError::NoData,
            _ => CollectError::Read { path: path.to_owned(), source },
        }
    }

    fn malformed(path: &Path, what: &'static str) -> Self {
        CollectError::Malformed { path: path.to_owned(), what }
    }
}

/// One source of samples. `buffer` is scratch space that all collectors share; its content means nothing.
trait Collector: Send {
    /// node_exporter's name of it, the label of `node_scrape_collector_success`.
    fn name(&self) -> &'static str;

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError>;
}

/// How one collector did in the last collection.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub collector: &'static str,
    pub success: bool,
    pub seconds: f64,
}

/// All collectors of a host.
pub struct Host {
    collectors: Vec<Box<dyn Collector>>,
    buffer: Vec<u8>,
    outcomes: Vec<Outcome>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.collectors.iter().map(|collector| collector.name())).finish()
    }
}

impl Host {
    pub fn new(options: &Options) -> Self {
        let roots = &options.roots;
        let links = links::SharedLinks::new(options);
        let mut collectors: Vec<Box<dyn Collector>> = vec![
            Box::new(arp::Arp::new(roots)),
            Box::new(bonding::Bonding::new(roots)),
            Box::new(conntrack::Conntrack::new(roots)),
            Box::new(cpu::Cpu::new(roots)),
            Box::new(cpufreq::CpuFreq::new(roots)),
            Box::new(diskstats::DiskStats::new(roots)),
            Box::new(dmi::Dmi::new(roots)),
            Box::new(edac::Edac::new(roots)),
            Box::new(entropy::Entropy::new(roots)),
            Box::new(filefd::FileFd::new(roots)),
            Box::new(filesystem::Filesystem::new(roots, options.in_cluster)),
            Box::new(kernel_hung::KernelHung::new(roots)),
            Box::new(loadavg::LoadAvg::new(roots)),
            Box::new(mdadm::MdAdm::new(roots)),
            Box::new(meminfo::MemInfo::new(roots)),
            Box::new(netdev::NetDev::new(links.clone())),
            Box::new(netclass::NetClass::new(links)),
            Box::new(netstat::NetStat::new(roots)),
            Box::new(nvme::Nvme::new(roots)),
            Box::new(os::Os::new(roots)),
            Box::new(powersupplyclass::PowerSupplyClass::new(roots)),
            Box::new(pressure::Pressure::new(roots)),
            Box::new(rapl::Rapl::new(roots)),
            Box::new(schedstat::SchedStat::new(roots)),
            Box::new(selinux::SeLinux::new(roots)),
            Box::new(sockstat::SockStat::new(roots)),
            Box::new(softnet::SoftNet::new(roots)),
            Box::new(stat::Stat::new(roots, options.softirqs)),
            Box::new(textfile::TextFile::new(roots)),
            Box::new(thermal_zone::ThermalZone::new(roots)),
            Box::new(time::Time::new(roots)),
            Box::new(timex::Timex),
            Box::new(udp_queues::UdpQueues::new(roots)),
            Box::new(uname::Uname),
            Box::new(vmstat::VmStat::new(roots)),
            Box::new(watchdog::Watchdog::new(roots)),
        ];
        if !options.in_cluster {
            // Reading sensors over slow buses takes milliseconds each.
            collectors.push(Box::new(hwmon::HwMon::new(roots)));
        }
        Host { collectors, buffer: Vec::with_capacity(16 * 1024), outcomes: Vec::new() }
    }

    /// Runs every collector once; `out` is cleared first.
    pub fn collect(&mut self, out: &mut Samples) {
        out.clear();
        self.outcomes.clear();
        for collector in &mut self.collectors {
            let mark = out.len();
            let began = Instant::now();
            let result = collector.collect(&mut self.buffer, out);
            let seconds = began.elapsed().as_secs_f64();
            if let Err(error) = &result {
                out.truncate(mark);
                match error {
                    CollectError::NoData => tracing::debug!(collector = collector.name(), "collector has no data"),
                    _ => tracing::debug!(
                        collector = collector.name(),
                        error = error as &dyn std::error::Error,
                        "collector failed"
                    ),
                }
            }
            self.outcomes.push(Outcome { collector: collector.name(), success: result.is_ok(), seconds });
        }
        for outcome in &self.outcomes {
            let labels = [("collector", outcome.collector)];
            out.gauge("node_scrape_collector_duration_seconds", &labels, outcome.seconds);
            out.gauge("node_scrape_collector_success", &labels, f64::from(u8::from(outcome.success)));
        }
        // Dashboards join on it (kube-prometheus); `version` says whose names these are, `branch` who made them.
        let build = [
            ("branch", "ers-agent"),
            ("goarch", GO_ARCH),
            ("goos", "linux"),
            ("goversion", "none"),
            ("revision", env!("CARGO_PKG_VERSION")),
            ("tags", "unknown"),
            ("version", NODE_EXPORTER_VERSION),
        ];
        out.gauge("node_exporter_build_info", &build, 1.0);
    }

    /// How each collector did last time, in the order they ran.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }
}

const GO_ARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    std::env::consts::ARCH
};
