//! `netclass`: properties of network devices.
//!
//! A negative speed means that the device does not know it; it is left out, which node_exporter 2 will do by default.

use super::links::{Class, SharedLinks};
use super::{CollectError, Collector};
use crate::samples::Samples;
use ers_wire::exposition::Kind;

const BYTES_PER_MEGABIT: i64 = 1_000_000 / 8;

pub struct NetClass {
    links: SharedLinks,
}

impl NetClass {
    pub fn new(links: SharedLinks) -> Self {
        NetClass { links }
    }
}

impl Collector for NetClass {
    fn name(&self) -> &'static str {
        "netclass"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        self.links.read(buffer, false, |links| {
            for class in &links.classes {
                push(class, out);
            }
        })
    }
}

fn push(class: &Class, out: &mut Samples) {
    let device = class.name.as_str();
    let is_up = class.oper_state == "up";
    out.gauge("node_network_up", &[("device", device)], f64::from(u8::from(is_up)));
    let admin_state = match class.flags {
        None => "unknown",
        Some(flags) if flags & 1 == 1 => "up",
        Some(_) => "down",
    };
    let labels = [
        ("address", class.address.as_str()),
        ("adminstate", admin_state),
        ("broadcast", &class.broadcast),
        ("device", device),
        ("duplex", &class.duplex),
        ("ifalias", &class.alias),
        ("operstate", &class.oper_state),
    ];
    out.gauge("node_network_info", &labels, 1.0);
    let speed = class.speed.filter(|megabits| *megabits >= 0).map(|megabits| megabits * BYTES_PER_MEGABIT);
    for (name, kind, value) in [
        ("node_network_address_assign_type", Kind::Gauge, class.address_assign_type),
        ("node_network_carrier", Kind::Gauge, class.carrier),
        ("node_network_carrier_changes_total", Kind::Counter, class.carrier_changes),
        ("node_network_carrier_up_changes_total", Kind::Counter, class.carrier_up),
        ("node_network_carrier_down_changes_total", Kind::Counter, class.carrier_down),
        ("node_network_device_id", Kind::Gauge, class.device_id),
        ("node_network_dormant", Kind::Gauge, class.dormant),
        ("node_network_flags", Kind::Gauge, class.flags),
        ("node_network_iface_id", Kind::Gauge, class.index),
        ("node_network_iface_link", Kind::Gauge, class.link),
        ("node_network_iface_link_mode", Kind::Gauge, class.link_mode),
        ("node_network_mtu_bytes", Kind::Gauge, class.mtu),
        ("node_network_name_assign_type", Kind::Gauge, class.name_assign_type),
        ("node_network_net_dev_group", Kind::Gauge, class.group),
        ("node_network_speed_bytes", Kind::Gauge, speed),
        ("node_network_transmit_queue_length", Kind::Gauge, class.tx_queue_length),
        ("node_network_protocol_type", Kind::Gauge, class.kind),
    ] {
        if let Some(value) = value {
            out.push(kind, &[name], &[("device", device)], value as f64);
        }
    }
}
