//! Network devices and their counters, read once per collection for both `netdev` and `netclass`.

use super::file::{KeptFile, names, read_attribute, to_valid_utf8};
use super::netlink::{LinkSocket, RawLink, Stats};
use super::{CollectError, NetworkSource, Options};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_PROMISC: u32 = 0x100;
const IFF_DORMANT: u32 = 0x2_0000;
/// RUNNING, LOWER_UP and DORMANT are computed by netlink and not part of sysfs' flags.
const COMPUTED_FLAGS: u32 = 0x40 | 0x1_0000 | IFF_DORMANT;
const OPER_STATES: [&str; 7] = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"];

/// What `netclass` says of a device; `None` where the kernel does not answer for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    pub name: String,
    pub address: String,
    pub broadcast: String,
    pub duplex: String,
    pub oper_state: String,
    pub alias: String,
    pub address_assign_type: Option<i64>,
    pub carrier: Option<i64>,
    pub carrier_changes: Option<i64>,
    pub carrier_up: Option<i64>,
    pub carrier_down: Option<i64>,
    pub device_id: Option<i64>,
    pub dormant: Option<i64>,
    pub flags: Option<i64>,
    pub index: Option<i64>,
    pub link: Option<i64>,
    pub link_mode: Option<i64>,
    pub mtu: Option<i64>,
    pub name_assign_type: Option<i64>,
    pub group: Option<i64>,
    /// Megabits per second.
    pub speed: Option<i64>,
    pub tx_queue_length: Option<i64>,
    pub kind: Option<i64>,
}

/// Counters of a device under the names that `netdev` gives them.
pub type Counters = Vec<(&'static str, u64)>;

/// The devices of one collection.
#[derive(Debug, Default)]
pub struct Links {
    pub classes: Vec<Class>,
    pub counters: Vec<(String, Counters)>,
}

/// Read by `netdev`, which runs first, and used again by `netclass`.
#[derive(Clone, Debug)]
pub struct SharedLinks(Arc<Mutex<Reader>>);

#[derive(Debug)]
struct Reader {
    links: Links,
    fresh: bool,
    source: NetworkSource,
    socket: LinkSocket,
    dev: KeptFile,
    folder: PathBuf,
    ignored: Vec<String>,
    in_cluster: bool,
    known: HashMap<i32, Known>,
}

/// What only sysfs knows. The assigned types never change; speed and duplex may when the carrier did.
#[derive(Clone, Debug, Default)]
struct Known {
    name: String,
    carrier_changes: Option<u32>,
    address_assign_type: Option<i64>,
    device_id: Option<i64>,
    name_assign_type: Option<i64>,
    speed: Option<i64>,
    duplex: String,
}

impl SharedLinks {
    pub fn new(options: &Options) -> Self {
        SharedLinks(Arc::new(Mutex::new(Reader {
            links: Links::default(),
            fresh: false,
            source: options.network,
            socket: LinkSocket::default(),
            dev: KeptFile::new(options.roots.proc.join("net/dev")),
            folder: options.roots.sys.join("class/net"),
            ignored: options.ignored_devices.clone(),
            in_cluster: options.in_cluster,
            known: HashMap::new(),
        })))
    }

    /// The devices: read anew for the first of the two collectors, handed out again for the second.
    pub fn read(&self, buffer: &mut Vec<u8>, anew: bool, use_links: impl FnOnce(&Links)) -> Result<(), CollectError> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if anew || !reader.fresh {
            reader.fresh = false;
            match reader.source {
                NetworkSource::Netlink => reader.read_netlink(buffer)?,
                NetworkSource::Files => reader.read_files(buffer)?,
            }
        }
        reader.fresh = anew;
        use_links(&reader.links);
        Ok(())
    }
}

impl Reader {
    fn read_netlink(&mut self, buffer: &mut Vec<u8>) -> Result<(), CollectError> {
        let Reader { links, socket, folder, ignored, in_cluster, known, .. } = self;
        links.classes.clear();
        links.counters.clear();
        let mut present = Vec::new();
        socket.dump(buffer, |link| {
            let name = to_valid_utf8(link.name).into_owned();
            if is_ignored(&name, ignored, *in_cluster) {
                return;
            }
            if let Some(stats) = &link.stats {
                links.counters.push((name.clone(), counters(stats)));
            }
            present.push(link.index);
            let extra = known.entry(link.index).or_default();
            refresh(extra, folder, &name, &link);
            links.classes.push(class(name, &link, extra));
        })?;
        if known.len() > present.len() {
            known.retain(|index, _| present.contains(index));
        }
        Ok(())
    }

    fn read_files(&mut self, buffer: &mut Vec<u8>) -> Result<(), CollectError> {
        self.links.classes.clear();
        self.links.counters.clear();
        match self.dev.read(buffer) {
            Ok(text) => {
                for line in text.lines().skip(2) {
                    let Some((name, rest)) = line.split_once(':') else {
                        continue;
                    };
                    let name = name.trim();
                    if !is_ignored(name, &self.ignored, self.in_cluster) {
                        let values = rest.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
                        self.links.counters.push((name.to_owned(), DEV_COLUMNS.into_iter().zip(values).collect()));
                    }
                }
            }
            Err(CollectError::NoData) => {}
            Err(other) => return Err(other),
        }
        for name in names(&self.folder).map_err(|source| CollectError::read(&self.folder, source))? {
            let device = self.folder.join(&name);
            if device.is_dir() && !is_ignored(&name, &self.ignored, self.in_cluster) {
                self.links.classes.push(read_class(name, &device));
            }
        }
        Ok(())
    }
}

/// Columns of `/proc/net/dev`.
const DEV_COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

/// The counters under `/proc/net/dev`'s names, summed as the kernel sums them there (net/core/net-procfs.c).
fn counters(stats: &Stats) -> Counters {
    let [
        rx_packets,
        tx_packets,
        rx_bytes,
        tx_bytes,
        rx_errors,
        tx_errors,
        rx_dropped,
        tx_dropped,
        multicast,
        collisions,
        rx_length,
        rx_over,
        rx_crc,
        rx_frame,
        rx_fifo,
        rx_missed,
        tx_aborted,
        tx_carrier,
        tx_fifo,
        tx_heartbeat,
        tx_window,
        rx_compressed,
        tx_compressed,
        rx_no_handler,
    ] = *stats;
    vec![
        ("receive_bytes", rx_bytes),
        ("receive_packets", rx_packets),
        ("receive_errs", rx_errors),
        ("receive_drop", rx_dropped.wrapping_add(rx_missed)),
        ("receive_fifo", rx_fifo),
        ("receive_frame", rx_frame.wrapping_add(rx_length).wrapping_add(rx_over).wrapping_add(rx_crc)),
        ("receive_compressed", rx_compressed),
        ("receive_multicast", multicast),
        ("receive_nohandler", rx_no_handler),
        ("transmit_bytes", tx_bytes),
        ("transmit_packets", tx_packets),
        ("transmit_errs", tx_errors),
        ("transmit_drop", tx_dropped),
        ("transmit_fifo", tx_fifo),
        ("transmit_colls", collisions),
        ("transmit_carrier", tx_carrier.wrapping_add(tx_aborted).wrapping_add(tx_heartbeat).wrapping_add(tx_window)),
        ("transmit_compressed", tx_compressed),
    ]
}

fn refresh(known: &mut Known, folder: &Path, name: &str, link: &RawLink<'_>) {
    let device = folder.join(name);
    let is_new = known.name != name;
    if is_new {
        let number = |file: &str| read_attribute(&device.join(file)).ok().and_then(|text| parse_number(&text));
        *known = Known {
            name: name.to_owned(),
            address_assign_type: number("addr_assign_type"),
            device_id: number("dev_id"),
            name_assign_type: number("name_assign_type"),
            ..Known::default()
        };
    }
    if is_new || known.carrier_changes != link.carrier_changes {
        known.carrier_changes = link.carrier_changes;
        // Both fail on a device that is down, and say nothing of a loopback.
        let is_silent = link.flags & IFF_UP == 0 || link.flags & IFF_LOOPBACK != 0;
        known.speed = None;
        known.duplex.clear();
        if !is_silent {
            known.speed = read_attribute(&device.join("speed")).ok().and_then(|text| parse_number(&text));
            known.duplex = read_attribute(&device.join("duplex")).unwrap_or_default();
        }
    }
}

fn class(name: String, link: &RawLink<'_>, known: &Known) -> Class {
    let is_up = link.flags & IFF_UP != 0;
    let promiscuous = if link.promiscuity > 0 { IFF_PROMISC } else { 0 };
    let wide = |value: Option<u32>| value.map(i64::from);
    Class {
        name,
        address: hardware_address(link.address),
        broadcast: hardware_address(link.broadcast),
        duplex: known.duplex.clone(),
        oper_state: OPER_STATES.get(usize::from(link.oper_state)).copied().unwrap_or("unknown").to_owned(),
        alias: to_valid_utf8(link.alias).into_owned(),
        address_assign_type: known.address_assign_type,
        // sysfs refuses these two for a device that is down.
        carrier: if is_up { link.carrier.map(i64::from) } else { None },
        dormant: is_up.then_some(i64::from(link.flags & IFF_DORMANT != 0)),
        carrier_changes: wide(link.carrier_changes),
        carrier_up: wide(link.carrier_up),
        carrier_down: wide(link.carrier_down),
        device_id: known.device_id,
        flags: Some(i64::from(link.flags & !COMPUTED_FLAGS | promiscuous)),
        index: Some(i64::from(link.index)),
        link: Some(link.link.map_or(i64::from(link.index), i64::from)),
        link_mode: Some(i64::from(link.link_mode)),
        mtu: Some(i64::from(link.mtu)),
        name_assign_type: known.name_assign_type,
        group: Some(i64::from(link.group)),
        speed: known.speed,
        tx_queue_length: Some(i64::from(link.tx_queue_length)),
        kind: Some(i64::from(link.kind)),
    }
}

/// The same from sysfs.
fn read_class(name: String, device: &Path) -> Class {
    let text = |file: &str| read_attribute(&device.join(file)).ok();
    let number = |file: &str| text(file).and_then(|value| parse_number(&value));
    Class {
        name,
        address: text("address").unwrap_or_default(),
        broadcast: text("broadcast").unwrap_or_default(),
        duplex: text("duplex").unwrap_or_default(),
        oper_state: text("operstate").unwrap_or_default(),
        alias: text("ifalias").unwrap_or_default(),
        address_assign_type: number("addr_assign_type"),
        carrier: number("carrier"),
        carrier_changes: number("carrier_changes"),
        carrier_up: number("carrier_up_count"),
        carrier_down: number("carrier_down_count"),
        device_id: number("dev_id"),
        dormant: number("dormant"),
        flags: number("flags"),
        index: number("ifindex"),
        link: number("iflink"),
        link_mode: number("link_mode"),
        mtu: number("mtu"),
        name_assign_type: number("name_assign_type"),
        group: number("netdev_group"),
        speed: number("speed"),
        tx_queue_length: number("tx_queue_len"),
        kind: number("type"),
    }
}

/// Decimal, or hexadecimal after `0x`.
fn parse_number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn hardware_address(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(bytes.len() * 3);
    for (at, byte) in bytes.iter().enumerate() {
        let _ = write!(out, "{}{byte:02x}", if at == 0 { "" } else { ":" });
    }
    out
}

/// In a cluster the host's ends of pods' devices are left out, as kube-prometheus does: `^(veth.*|[a-f0-9]{15})$`.
fn is_ignored(name: &str, ignored: &[String], in_cluster: bool) -> bool {
    let of_a_pod = || {
        name.starts_with("veth")
            || (name.len() == 15 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    };
    ignored.iter().any(|one| one == name) || (in_cluster && of_a_pod())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Roots;

    #[test]
    fn netlink_and_files_say_the_same_of_this_machine() {
        let read = |network: NetworkSource| {
            let options = Options { network, ..Options::for_roots(Roots::default()) };
            let mut classes = Vec::new();
            let mut counted = Vec::new();
            let links = SharedLinks::new(&options);
            let use_links = |links: &Links| {
                classes = links.classes.clone();
                counted = links.counters.iter().map(|(name, counters)| (name.clone(), counters.len())).collect();
            };
            links.read(&mut Vec::new(), true, use_links).expect("read");
            classes.sort_by(|left: &Class, right: &Class| left.name.cmp(&right.name));
            for class in &mut classes {
                // Devices of other tests come and go, and -1 Mbit/s of a virtual device is no speed.
                class.speed = class.speed.filter(|speed| *speed >= 0);
            }
            classes.retain(|class: &Class| class.name == "lo" || class.name.starts_with("eth"));
            counted.retain(|(name, _): &(String, usize)| name == "lo");
            (classes, counted)
        };
        let (by_netlink, counted) = read(NetworkSource::Netlink);
        let (by_files, counted_in_files) = read(NetworkSource::Files);
        assert_eq!(by_netlink, by_files);
        assert_eq!(counted, [("lo".to_owned(), 17)]);
        assert_eq!(counted_in_files, [("lo".to_owned(), 16)]);
    }

    #[test]
    fn ends_of_pods_devices_are_left_out_in_a_cluster() {
        assert!(is_ignored("veth1a2b", &[], true));
        assert!(is_ignored("0123456789abcde", &[], true));
        assert!(!is_ignored("veth1a2b", &[], false));
        assert!(!is_ignored("eth0", &[], true));
    }
}
