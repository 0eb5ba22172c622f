//! One `RTM_GETLINK` dump over rtnetlink: every network device with its counters, in two or three system calls.
//!
//! Reading the same from sysfs costs some 22 files per device (measured 2026: 173 ms per collection on a node with 201
//! devices, 1.9 ms by netlink). Formats: netlink(7), rtnetlink(7), linux/if_link.h.

use super::CollectError;
use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::time::Duration;

const HEADER_BYTES: usize = 16;
const IFINFO_BYTES: usize = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWLINK: u16 = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
/// The kernel fills at most 32 KiB per datagram of a dump.
const RECEIVE_BYTES: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// `IFLA_*` attributes that are read.
mod attribute {
    pub const ADDRESS: u16 = 1;
    pub const BROADCAST: u16 = 2;
    pub const NAME: u16 = 3;
    pub const MTU: u16 = 4;
    pub const LINK: u16 = 5;
    pub const TX_QUEUE_LENGTH: u16 = 13;
    pub const OPER_STATE: u16 = 16;
    pub const LINK_MODE: u16 = 17;
    pub const ALIAS: u16 = 20;
    pub const STATS64: u16 = 23;
    pub const GROUP: u16 = 27;
    pub const PROMISCUITY: u16 = 30;
    pub const CARRIER: u16 = 33;
    pub const CARRIER_CHANGES: u16 = 35;
    pub const CARRIER_UP_COUNT: u16 = 47;
    pub const CARRIER_DOWN_COUNT: u16 = 48;
}

/// `struct rtnl_link_stats64`, the 24 counters that every kernel since 4.6 sends.
pub type Stats = [u64; 24];

/// One device, as the kernel describes it.
#[derive(Debug, Default, Clone)]
pub struct RawLink<'a> {
    pub name: &'a [u8],
    pub index: i32,
    /// `ARPHRD_*`
    pub kind: u16,
    pub flags: u32,
    pub address: &'a [u8],
    pub broadcast: &'a [u8],
    pub mtu: u32,
    /// Index of the device below or, of a pair, opposite; absent means itself.
    pub link: Option<u32>,
    pub tx_queue_length: u32,
    pub oper_state: u8,
    pub link_mode: u8,
    pub alias: &'a [u8],
    pub group: u32,
    pub promiscuity: u32,
    pub carrier: Option<u8>,
    pub carrier_changes: Option<u32>,
    pub carrier_up: Option<u32>,
    pub carrier_down: Option<u32>,
    pub stats: Option<Stats>,
}

/// A socket for link dumps, opened at the first use and again after an error.
#[derive(Debug, Default)]
pub struct LinkSocket {
    socket: Option<OwnedFd>,
    sequence: u32,
}

impl LinkSocket {
    /// Asks for all devices and hands each to `each`.
    pub fn dump(&mut self, buffer: &mut Vec<u8>, each: impl FnMut(RawLink<'_>)) -> Result<(), CollectError> {
        let result = self.try_dump(buffer, each);
        if result.is_err() {
            self.socket = None;
        }
        result
    }

    fn try_dump(&mut self, buffer: &mut Vec<u8>, mut each: impl FnMut(RawLink<'_>)) -> Result<(), CollectError> {
        self.sequence = self.sequence.wrapping_add(1);
        let socket = match &mut self.socket {
            Some(socket) => socket,
            empty => empty.insert(open()?),
        };
        send(&*socket, &request(self.sequence), SendFlags::empty()).map_err(|error| failed("sending", error))?;
        buffer.resize(buffer.len().max(RECEIVE_BYTES), 0);
        loop {
            let (count, _) = match recv(&*socket, &mut buffer[..], RecvFlags::empty()) {
                Ok(received) => received,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed("receiving", error)),
            };
            if parse(&buffer[..count], self.sequence, &mut each)? {
                return Ok(());
            }
        }
    }
}

fn failed(doing: &'static str, error: rustix::io::Errno) -> CollectError {
    CollectError::Netlink { doing, source: error.into() }
}

/// Protocol 0 of the family is NETLINK_ROUTE.
fn open() -> Result<OwnedFd, CollectError> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(|error| failed("opening a socket", error))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).map_err(|error| failed("setting a timeout", error))?;
    Ok(socket)
}

/// `struct nlmsghdr` and an empty `struct ifinfomsg`.
fn request(sequence: u32) -> [u8; HEADER_BYTES + IFINFO_BYTES] {
    let mut message = [0_u8; HEADER_BYTES + IFINFO_BYTES];
    message[0..4].copy_from_slice(&((HEADER_BYTES + IFINFO_BYTES) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    message[8..12].copy_from_slice(&sequence.to_ne_bytes());
    message
}

/// Reads one datagram; `true` when the dump is complete. Messages of an earlier, abandoned dump are skipped.
fn parse(mut datagram: &[u8], sequence: u32, each: &mut impl FnMut(RawLink<'_>)) -> Result<bool, CollectError> {
    while datagram.len() >= HEADER_BYTES {
        let length = u32_at(datagram, 0) as usize;
        if length < HEADER_BYTES || length > datagram.len() {
            return Err(failed("reading a message", rustix::io::Errno::BADMSG));
        }
        let message = &datagram[..length];
        let ours = u32_at(message, 8) == sequence;
        match u16_at(message, 4) {
            NLMSG_DONE if ours => return Ok(true),
            NLMSG_ERROR if ours => {
                let code = if length >= HEADER_BYTES + 4 { u32_at(message, HEADER_BYTES) as i32 } else { 0 };
                return Err(failed("asking for links", rustix::io::Errno::from_raw_os_error(-code)));
            }
            RTM_NEWLINK if ours && length >= HEADER_BYTES + IFINFO_BYTES => each(parse_link(&message[HEADER_BYTES..])),
            _ => {}
        }
        datagram = &datagram[align(length).min(datagram.len())..];
    }
    Ok(false)
}

fn parse_link(message: &[u8]) -> RawLink<'_> {
    let mut link = RawLink {
        kind: u16_at(message, 2),
        index: u32_at(message, 4) as i32,
        flags: u32_at(message, 8),
        ..RawLink::default()
    };
    let mut rest = &message[IFINFO_BYTES..];
    while rest.len() >= 4 {
        let length = u16_at(rest, 0) as usize;
        if length < 4 || length > rest.len() {
            break;
        }
        let value = &rest[4..length];
        let number = || (value.len() >= 4).then(|| u32_at(value, 0));
        let byte = || value.first().copied();
        // The upper bits say "nested" and "network byte order".
        match u16_at(rest, 2) & 0x3fff {
            attribute::NAME => link.name = until_nul(value),
            attribute::ADDRESS => link.address = value,
            attribute::BROADCAST => link.broadcast = value,
            attribute::MTU => link.mtu = number().unwrap_or_default(),
            attribute::LINK => link.link = number(),
            attribute::TX_QUEUE_LENGTH => link.tx_queue_length = number().unwrap_or_default(),
            attribute::OPER_STATE => link.oper_state = byte().unwrap_or_default(),
            attribute::LINK_MODE => link.link_mode = byte().unwrap_or_default(),
            attribute::ALIAS => link.alias = until_nul(value),
            attribute::GROUP => link.group = number().unwrap_or_default(),
            attribute::PROMISCUITY => link.promiscuity = number().unwrap_or_default(),
            attribute::CARRIER => link.carrier = byte(),
            attribute::CARRIER_CHANGES => link.carrier_changes = number(),
            attribute::CARRIER_UP_COUNT => link.carrier_up = number(),
            attribute::CARRIER_DOWN_COUNT => link.carrier_down = number(),
            attribute::STATS64 => link.stats = stats(value),
            _ => {}
        }
        rest = &rest[align(length).min(rest.len())..];
    }
    link
}

fn stats(value: &[u8]) -> Option<Stats> {
    let mut stats: Stats = [0; 24];
    if value.len() < 23 * 8 {
        return None;
    }
    for (counter, bytes) in stats.iter_mut().zip(value.chunks_exact(8)) {
        *counter = bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    }
    Some(stats)
}

fn until_nul(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|two| two.try_into().ok()).map(u16::from_ne_bytes).unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(u32::from_ne_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_loopback_device_is_found() {
        let mut found = false;
        let mut socket = LinkSocket::default();
        for _ in 0..2 {
            let each = |link: RawLink<'_>| found |= link.name == b"lo" && link.stats.is_some() && link.kind == 772;
            socket.dump(&mut Vec::new(), each).expect("dump");
        }
        assert!(found);
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(datagram in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&datagram, 1, &mut |_| {});
        }

        #[test]
        fn arbitrary_attributes_never_panic(body in proptest::collection::vec(0_u8..60, 0..200)) {
            let mut message = vec![0_u8; HEADER_BYTES + IFINFO_BYTES];
            message.extend_from_slice(&body);
            let length = message.len() as u32;
            message[0..4].copy_from_slice(&length.to_ne_bytes());
            message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
            message[8..12].copy_from_slice(&1_u32.to_ne_bytes());
            let _ = parse(&message, 1, &mut |_| {});
        }
    }
}
