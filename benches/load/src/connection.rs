use std::io::{self, Read, Write};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mio::net::TcpStream;
use socket2::SockAddr;

use crate::frames::{Outbox, escaped};
use crate::scan::Incoming;
use crate::{LoadError, Target, source};

/// Who a connection signs in as, and what it subscribes to
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) subscribe: Option<Subscribe>,
}

#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    pub(crate) destination: String,
    pub(crate) ack: &'static str,
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Until the server's answer to the upgrade
    Upgrading,
    /// Until CONNECTED
    SigningIn,
    /// Until the RECEIPT of SUBSCRIBE
    Subscribing,
    Ready,
    Closed,
}

/// One connection to the server
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    pub(crate) stage: Stage,
    pub(crate) outbox: Outbox,
    /// What has arrived of an item that is not whole.
    pub(crate) left: Vec<u8>,
    /// It stands in the engine's list of connections to be written.
    pub(crate) dirty: bool,
    /// The socket took nothing more.
    blocked: bool,
    /// Nothing is read for now.
    pub(crate) paused: bool,
    plan: Option<Box<Plan>>,
}

impl Connection {
    pub(crate) fn open(target: &Target, plan: Plan) -> Result<Self, LoadError> {
        let address = &target.address;
        let socket = connect(address.socket)?;
        let framed = address.path.is_some();
        let mut connection = Self {
            socket,
            stage: if framed { Stage::Upgrading } else { Stage::SigningIn },
            outbox: Outbox { framed, ..Outbox::default() },
            left: Vec::new(),
            dirty: true,
            blocked: true,
            paused: false,
            plan: None,
        };
        match &address.path {
            Some(path) => {
                let key = STANDARD.encode((plan.number as u128).to_be_bytes());
                let request = format!(
                    "GET {path} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                     sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\
                     sec-websocket-protocol: v12.stomp\r\n\r\n",
                    address.authority
                );
                connection.outbox.raw(request.as_bytes());
            }
            None => connection.sign_in(target, &plan),
        }
        connection.plan = Some(Box::new(plan));
        Ok(connection)
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Looks at the answer to the upgrade.
    pub(crate) fn upgraded(&mut self, target: &Target, head: &[u8]) -> Result<(), LoadError> {
        if !head.starts_with(b"HTTP/1.1 101") {
            let line = head.split(|octet| *octet == b'\r').next().unwrap_or_default();
            return Err(LoadError::Server(String::from_utf8_lossy(line).into_owned()));
        }
        self.stage = Stage::SigningIn;
        if let Some(plan) = self.plan.take() {
            self.sign_in(target, &plan);
            self.plan = Some(plan);
        }
        Ok(())
    }

    fn sign_in(&mut self, target: &Target, plan: &Plan) {
        let (login, passcode) = (target.login_of(plan.number), target.passcode_of(plan.number));
        let mut frame = "CONNECT\naccept-version:1.2\nheart-beat:0,0\n".to_owned();
        let all = [("host", &target.host), ("login", &login), ("passcode", &passcode)];
        let further = target.headers.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in all.into_iter().chain(further) {
            if !value.is_empty() {
                // CONNECT is read as 1.0 writes it.
                frame.push_str(&format!("{name}:{value}\n"));
            }
        }
        frame.push_str("\n\0");
        self.outbox.frame(&[frame.as_bytes()]);
    }

    /// Takes a frame on the way to [`Stage::Ready`].
    pub(crate) fn advance(&mut self, frame: Incoming<'_>) -> Result<(), LoadError> {
        match (self.stage, frame.command()) {
            (Stage::SigningIn, b"CONNECTED") => {
                self.stage = Stage::Ready;
                let plan = self.plan.take();
                if let Some(subscribe) = plan.and_then(|plan| plan.subscribe) {
                    self.stage = Stage::Subscribing;
                    self.subscribe(&subscribe);
                }
                Ok(())
            }
            (Stage::Subscribing, b"RECEIPT") => {
                self.stage = Stage::Ready;
                Ok(())
            }
            _ => Err(refusal(frame)),
        }
    }

    fn subscribe(&mut self, subscribe: &Subscribe) {
        let Subscribe { destination, ack, headers } = subscribe;
        let mut frame = format!(
            "SUBSCRIBE\nid:0\ndestination:{}\nack:{ack}\nreceipt:live\n",
            escaped(destination)
        );
        for (name, value) in headers {
            frame.push_str(&format!("{}:{}\n", escaped(name), escaped(value)));
        }
        frame.push_str("\n\0");
        self.outbox.frame(&[frame.as_bytes()]);
    }

    /// Reads once. How many octets, 0 at the end, `None` if there are none now.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            return match self.socket.read(buffer) {
                Ok(count) => Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// The socket takes octets again.
    pub(crate) fn unblock(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        self.blocked = false;
        self.write()
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        while !self.blocked && self.outbox.waiting() > 0 {
            let waiting = self.outbox.octets.get(self.outbox.written..).unwrap_or_default();
            match self.socket.write(waiting) {
                Ok(count) => self.outbox.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.outbox.waiting() == 0 {
            self.outbox.octets.clear();
            self.outbox.written = 0;
        }
        Ok(())
    }

    /// Whether more can be queued: a full socket is not written past its measure.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.waiting() < 256 * 1024
    }
}

/// What a frame that refuses something says.
pub(crate) fn refusal(frame: Incoming<'_>) -> LoadError {
    let text = |octets| String::from_utf8_lossy(octets).trim().to_owned();
    let message = frame.header(b"message").map(text).unwrap_or_default();
    LoadError::Server(format!("{} {message} {}", text(frame.command()), text(frame.body)))
}

/// Begins to connect.
fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = source::socket(to)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
