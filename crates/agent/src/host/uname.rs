//! `uname`: kernel and host name, by uname(2) of this process: the host's when the agent shares its network, as pods do
//! that run with `hostNetwork`.

use super::{CollectError, Collector};
use crate::samples::Samples;

pub struct Uname;

impl Collector for Uname {
    fn name(&self) -> &'static str {
        "uname"
    }

    fn collect(&mut self, _buffer: &mut Vec<u8>, out: &mut Samples) -> Result<(), CollectError> {
        let names = rustix::system::uname();
        let (domain, machine, node) = (
            names.domainname().to_string_lossy(),
            names.machine().to_string_lossy(),
            names.nodename().to_string_lossy(),
        );
        let (release, system, version) =
            (names.release().to_string_lossy(), names.sysname().to_string_lossy(), names.version().to_string_lossy());
        let labels = [
            ("domainname", &*domain),
            ("machine", &*machine),
            ("nodename", &*node),
            ("release", &*release),
            ("sysname", &*system),
            ("version", &*version),
        ];
        out.gauge("node_uname_info", &labels, 1.0);
        Ok(())
    }
}
