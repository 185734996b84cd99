//! Where connections come from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections from one address. There are ports for more, 28 232 by default, but the last ones take long to find, and
/// those of connections that have just ended are taken.
const PER_SOURCE: u32 = 10_000;

/// A socket for a connection; on the loopback from an address that has ports left.
///
/// All of them have such an address: the system gives no other socket a port that one of them has.
pub(crate) fn socket(to: SocketAddr) -> io::Result<Socket> {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if matches!(to.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        let block = OPENED.fetch_add(1, Ordering::Relaxed) / PER_SOURCE;
        // What an earlier process has used may not be free yet.
        let process = std::process::id() % 250 + 2;
        let [.., process] = process.to_be_bytes();
        let [.., high, low] = (block % 65_000 + 1).to_be_bytes();
        let source = SocketAddr::from((Ipv4Addr::new(127, process, high, low), 0));
        socket.bind(&SockAddr::from(source))?;
    }
    Ok(socket)
}
