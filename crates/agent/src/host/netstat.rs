//! `netstat`: counters of the IP stack, from `/proc/net/{netstat,snmp,snmp6}`, those of node_exporter's default list.

use super::file::{KeptFile, float};
use super::{CollectError, Collector, Roots};
use crate::samples::Samples;
use ers_wire::exposition::Kind;

pub struct NetStat {
    pairs: [KeptFile; 2],
    six: KeptFile,
}

impl NetStat {
    pub fn new(roots: &Roots) -> Self {
        let file = |name: &str| KeptFile::new(roots.proc.join("net").join(name));
        NetStat { pairs: [file("netstat"), file("snmp")], six: file("snmp6") }
    }
}

impl Collector for NetStat {
    fn name(&self) -> &'static str {
        "netstat"
    }

    fn collect(&mut self, buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        for file in &mut self.pairs {
            let path = file.path().to_owned();
            let text = file.read(buffer)?;
            let mut lines = text.lines();
            // A line of names, then a line of values, both beginning with the protocol.
            while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
                let mut names = names.split_ascii_whitespace();
                let mut values = values.split_ascii_whitespace();
                let (Some(protocol), Some(again)) = (names.next(), values.next()) else {
                    continue;
                };
                if protocol != again {
                    return Err(CollectError::malformed(&path, "names and values are of different protocols"));
                }
                let protocol = protocol.trim_end_matches(':');
                for (name, value) in names.zip(values) {
                    if is_wanted(protocol, name) {
                        let value = float(value)
                            .ok_or_else(|| CollectError::malformed(&path, "expected a number for each name"))?;
                        out.push(Kind::Untyped, &["node_netstat_", protocol, "_", name], &[], value);
                    }
                }
            }
        }
        let text = match self.six.read(buffer) {
            Ok(text) => text,
            // IPv6 is switched off.
            Err(CollectError::NoData) => return Ok(()),
            Err(other) => return Err(other),
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next().and_then(float)) else {
                continue;
            };
            let Some(at) = name.find('6') else {
                continue;
            };
            let (protocol, name) = name.split_at(at + 1);
            if is_wanted(protocol, name) {
                out.push(Kind::Untyped, &["node_netstat_", protocol, "_", name], &[], value);
            }
        }
        Ok(())
    }
}

/// node_exporter's default `--collector.netstat.fields`, by hand: a match on two words instead of a regular expression
/// over some 300 names each time.
fn is_wanted(protocol: &str, name: &str) -> bool {
    if matches!(name, "InErrors" | "InErrs") {
        return true;
    }
    match protocol {
        "Ip" => name == "Forwarding",
        "Ip6" | "IpExt" => matches!(name, "InOctets" | "OutOctets"),
        "Icmp" | "Icmp6" => matches!(name, "InMsgs" | "OutMsgs"),
        "TcpExt" => {
            name.starts_with("Listen")
                || name.starts_with("Syncookies")
                || matches!(name, "TCPSynRetrans" | "TCPTimeouts" | "TCPOFOQueue" | "TCPRcvQDrop")
        }
        "Tcp" => matches!(
            name,
            "ActiveOpens" | "InSegs" | "OutSegs" | "OutRsts" | "PassiveOpens" | "RetransSegs" | "CurrEstab"
        ),
        "Udp" | "Udp6" => {
            matches!(name, "InDatagrams" | "OutDatagrams" | "NoPorts" | "RcvbufErrors" | "SndbufErrors")
        }
        _ => false,
    }
}
