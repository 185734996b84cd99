//! Ports of the loopback address that are handed to one server only.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// How many ports below the ephemeral ones are used.
const SPAN: u16 = 10_000;

/// Some ports that no other holder of `Ports` has, in this process or another
///
/// They lie below the ephemeral range: a client that reconnects to a server that is gone could
/// otherwise be given the server's own port as its local one, and keep it from starting again.
#[derive(Debug)]
pub(super) struct Ports {
    ports: Vec<u16>,
    /// Each an abstract socket whose name stands for the port: gone with the process, in any way.
    _claims: Vec<UnixListener>,
}

impl Ports {
    pub(super) fn reserve(count: usize) -> io::Result<Self> {
        let range = range_below_ephemeral();
        let offset = RandomState::new().hash_one(()) % u64::from(SPAN);
        let (mut ports, mut claims) = (Vec::new(), Vec::new());
        for port in range.clone().cycle().skip(offset as usize).take(range.len()) {
            if ports.len() == count {
                break;
            }
            if let Some(claim) = claim(port)?
                && is_free(port)
            {
                ports.push(port);
                claims.push(claim);
            }
        }
        if ports.len() < count {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"));
        }
        Ok(Self { ports, _claims: claims })
    }

    pub(super) fn get(&self) -> &[u16] {
        &self.ports
    }

    /// Whether someone listens on one of them.
    pub(super) fn in_use(&self) -> bool {
        !self.ports.iter().copied().all(is_free)
    }
}

fn range_below_ephemeral() -> Range<u16> {
    let end = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|start| *start > 2 * SPAN)
        .unwrap_or(32_768);
    end - SPAN..end
}

/// `None` if another holds the port.
fn claim(port: u16) -> io::Result<Option<UnixListener>> {
    let name = SocketAddr::from_abstract_name(format!("mq-bridge-test-port-{port}"))?;
    match UnixListener::bind_addr(&name) {
        Ok(claim) => Ok(Some(claim)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let held: Vec<Ports> = (0..200).map(|_| Ports::reserve(3).unwrap()).collect();
        let distinct: HashSet<u16> = held.iter().flat_map(Ports::get).copied().collect();
        assert_eq!(distinct.len(), 600);
    }

    #[test]
    fn a_port_that_someone_listens_on_is_not_free() {
        let ports = Ports::reserve(1).unwrap();
        assert!(!ports.in_use());
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.get()[0])).unwrap();
        assert!(ports.in_use());
    }
}
