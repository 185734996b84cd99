use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::LoadError;

/// Where a server listens, and what it speaks there
///
/// Written `ws://host:port/path` or `tcp://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The socket
    pub socket: SocketAddr,
    /// The host and port as they were written, for `Host`
    pub authority: String,
    /// The path of the WebSocket endpoint; `None` for STOMP on TCP
    pub path: Option<String>,
}

impl FromStr for Address {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let wrong = |problem| LoadError::Target { address: text.to_owned(), problem };
        let (authority, path) = if let Some(rest) = text.strip_prefix("ws://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            (authority, Some(format!("/{path}")))
        } else if let Some(authority) = text.strip_prefix("tcp://") {
            (authority, None)
        } else {
            return Err(wrong("it begins with ws:// or tcp://"));
        };
        let socket = authority
            .to_socket_addrs()
            .ok()
            .and_then(|mut all| all.next())
            .ok_or_else(|| wrong("the host and the port do not name an address"))?;
        Ok(Self { socket, authority: authority.to_owned(), path })
    }
}

/// A server and how to sign in to it
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// Where it is
    pub address: Address,
    /// The login of each connection, `{n}` being its number
    pub login: String,
    /// The passcode of each connection, `{n}` being its number
    pub passcode: String,
    /// The passcodes of the first connections, where they differ in more than a number
    pub passcodes: Vec<String>,
    /// Further headers of CONNECT, and the virtual host
    pub headers: Vec<(String, String)>,
    /// The `host` of CONNECT
    pub host: String,
    /// The server's process, to tell its CPU time and memory
    pub pid: Option<u32>,
}

impl Target {
    /// A server that wants no credentials.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            login: String::new(),
            passcode: String::new(),
            passcodes: Vec::new(),
            headers: Vec::new(),
            host: "/".to_owned(),
            pid: None,
        }
    }

    /// Sets login and passcode.
    #[must_use]
    pub fn with_login(mut self, login: impl Into<String>, passcode: impl Into<String>) -> Self {
        self.login = login.into();
        self.passcode = passcode.into();
        self
    }

    /// Sets the passcodes of the first connections.
    #[must_use]
    pub fn with_passcodes(mut self, passcodes: Vec<String>) -> Self {
        self.passcodes = passcodes;
        self
    }

    /// Sets the process of the server.
    #[must_use]
    pub const fn with_pid(mut self, pid: Option<u32>) -> Self {
        self.pid = pid;
        self
    }

    pub(crate) fn login_of(&self, number: usize) -> String {
        numbered(&self.login, number)
    }

    pub(crate) fn passcode_of(&self, number: usize) -> String {
        self.passcodes.get(number).cloned().unwrap_or_else(|| numbered(&self.passcode, number))
    }
}

/// `text` with `{n}` replaced
pub(crate) fn numbered(text: &str, number: usize) -> String {
    text.replace("{n}", &number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_is_spoken_there() {
        let ws: Address = "ws://127.0.0.1:8080/ws".parse().unwrap();
        assert_eq!((ws.socket.port(), ws.path.as_deref()), (8080, Some("/ws")));
        let tcp: Address = "tcp://127.0.0.1:61613".parse().unwrap();
        assert_eq!((tcp.socket.port(), tcp.path), (61613, None));
        for text in ["127.0.0.1:1", "ws://nowhere", "http://127.0.0.1:1/"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_connection_signs_in_as_its_own() {
        let target = Target::new("tcp://127.0.0.1:1".parse().unwrap())
            .with_login("user{n}", "secret{n}")
            .with_passcodes(vec!["token".to_owned()]);
        assert_eq!((target.login_of(7), target.passcode_of(7)), ("user7".into(), "secret7".into()));
        assert_eq!(target.passcode_of(0), "token");
    }
}
