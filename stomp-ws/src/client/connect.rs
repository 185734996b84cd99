use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use stomp_codec::{Version, Versions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ConnectError, ConnectOptions};
use crate::handshake::accept_key;
use crate::{Role, Subprotocol, Transport};

/// Longest HTTP head that a server may answer the upgrade with
const MAX_HEAD: usize = 16 * 1024;
/// Most header lines in it
const MAX_HEADERS: usize = 64;
/// How much of the body of a refusal is shown
const MAX_BODY: usize = 1024;

/// Where to connect to
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub(super) scheme: Scheme,
    /// Without brackets
    pub(super) host: &'a str,
    port: u16,
    /// As it stands in the address
    authority: &'a str,
    path: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    WebSocket,
    Tcp,
}

impl<'a> Address<'a> {
    pub(super) fn parse(url: &'a str) -> Result<Self, ConnectError> {
        let fault = |fault| ConnectError::Url { url: url.to_owned(), fault };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("it has no scheme"))?;
        let (scheme, default_port) = match scheme {
            "ws" | "http" => (Scheme::WebSocket, 80),
            "tcp" | "stomp" => (Scheme::Tcp, 61613),
            "wss" | "https" => {
                return Err(fault("make the TLS connection yourself and use Client::websocket"));
            }
            _ => return Err(fault("the scheme is none of ws, tcp and stomp")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        if authority.contains('@') {
            return Err(fault("credentials belong into the options"));
        }
        if path.bytes().any(|octet| octet <= b' ' || octet == 0x7f) {
            return Err(fault("the path holds blanks or control characters"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| fault("the port is not a number"))?)
            }
            _ => (authority, default_port),
        };
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.bytes().any(|octet| octet <= b' ' || octet == 0x7f) {
            return Err(fault("it has no host"));
        }
        Ok(Self { scheme, host, port, authority, path })
    }

    pub(super) async fn connect(
        &self,
        options: &ConnectOptions,
    ) -> Result<Transport, ConnectError> {
        let stream = TcpStream::connect((self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        match self.scheme {
            Scheme::Tcp => Ok(Transport::stream(stream, options.transport)),
            Scheme::WebSocket => self.upgrade(stream, options).await,
        }
    }

    /// Opens a WebSocket on a byte stream (RFC 6455 section 4.1).
    pub(super) async fn upgrade<T>(
        &self,
        mut io: T,
        options: &ConnectOptions,
    ) -> Result<Transport, ConnectError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let key = STANDARD.encode(nonce);
        let offered = subprotocols(options.offered());
        io.write_all(self.request(&key, &offered, options)?.as_bytes()).await?;
        io.flush().await?;

        let mut received = BytesMut::with_capacity(4096);
        loop {
            let at_end = io.read_buf(&mut received).await? == 0;
            if let Some(len) = check_response(&received, at_end, &key, &offered)? {
                received.advance(len);
                return Ok(Transport::websocket(io, &received, Role::Client, options.transport));
            }
            if at_end {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            if received.len() > MAX_HEAD {
                return Err(ConnectError::Handshake("its head is longer than 16 KiB"));
            }
        }
    }

    fn request(
        &self,
        key: &str,
        offered: &[Subprotocol],
        options: &ConnectOptions,
    ) -> Result<String, ConnectError> {
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        let names: Vec<&str> = offered.iter().map(|name| name.as_str()).collect();
        let mut request = format!(
            "GET {slash}{} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {}\r\n",
            self.path,
            self.authority,
            names.join(", "),
        );
        for (name, value) in &options.upgrade_headers {
            let valid = http::HeaderName::try_from(name).is_ok()
                && http::HeaderValue::try_from(value).is_ok();
            if !valid {
                return Err(ConnectError::Handshake("an upgrade header cannot be sent"));
            }
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(request)
    }
}

/// The names of the versions, highest first (W-08).
fn subprotocols(versions: Versions) -> Vec<Subprotocol> {
    let enabled = |name: &Subprotocol| {
        versions.contains(match name {
            Subprotocol::V10 => Version::V1_0,
            Subprotocol::V11 => Version::V1_1,
            Subprotocol::V12 => Version::V1_2,
        })
    };
    Subprotocol::ALL.into_iter().filter(enabled).collect()
}

/// The length of the head, once it is complete and agrees to the upgrade. A refusal is complete with the part of its body
/// that is shown.
fn check_response(
    received: &[u8],
    at_end: bool,
    key: &str,
    offered: &[Subprotocol],
) -> Result<Option<usize>, ConnectError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let status = response
        .parse(received)
        .map_err(|_| ConnectError::Handshake("it is not an HTTP/1.1 response"))?;
    let httparse::Status::Complete(len) = status else { return Ok(None) };
    let values = |name: &'static str| {
        let named = response.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name));
        named.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    if response.code != Some(101) {
        let body = received.get(len..).unwrap_or_default();
        let announced = values("content-length").next().and_then(|len| len.parse().ok());
        if !at_end && body.len() < announced.unwrap_or(MAX_BODY).min(MAX_BODY) {
            return Ok(None);
        }
        return Err(ConnectError::Upgrade {
            status: response.code.unwrap_or_default(),
            body: String::from_utf8_lossy(body.get(..MAX_BODY).unwrap_or(body))
                .trim_end()
                .to_owned(),
        });
    }
    let has = |name, token: &str| {
        values(name).any(|line| line.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    };
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(ConnectError::Handshake("it does not switch to WebSocket"));
    }
    if !values("sec-websocket-accept").eq([accept_key(key.as_bytes())]) {
        return Err(ConnectError::Handshake("Sec-WebSocket-Accept does not fit the key"));
    }
    if values("sec-websocket-extensions").next().is_some() {
        return Err(ConnectError::Handshake("it chose an extension and none was offered"));
    }
    let mut chosen = values("sec-websocket-protocol");
    match (chosen.next(), chosen.next()) {
        (None, _) => {}
        (Some(name), None) if offered.iter().any(|offered| offered.as_str() == name) => {}
        (Some(name), _) => return Err(ConnectError::Subprotocol(name)),
    }
    Ok(Some(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let parse = |url| {
            Address::parse(url).map(|a| (a.scheme, a.host.to_owned(), a.port, a.path.to_owned()))
        };
        let ws = |host: &str, port, path: &str| {
            (Scheme::WebSocket, host.to_owned(), port, path.to_owned())
        };
        assert_eq!(parse("ws://localhost:8080/ws").unwrap(), ws("localhost", 8080, "/ws"));
        assert_eq!(parse("ws://h/ws?a=b#c").unwrap(), ws("h", 80, "/ws?a=b"));
        assert_eq!(parse("ws://[::1]:1/").unwrap(), ws("::1", 1, "/"));
        assert_eq!(parse("ws://[::1]").unwrap(), ws("::1", 80, ""));
        assert_eq!(
            parse("tcp://127.0.0.1").unwrap(),
            (Scheme::Tcp, "127.0.0.1".to_owned(), 61613, String::new())
        );
        for url in [
            "",
            "localhost",
            "ws://",
            "ws://:1",
            "ws://h:x",
            "wss://h",
            "ftp://h",
            "ws://a@h",
            "ws://h/a b",
        ] {
            assert!(matches!(parse(url), Err(ConnectError::Url { .. })), "{url}");
        }
    }

    fn response(lines: &str) -> Result<Option<usize>, ConnectError> {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let head = format!("HTTP/1.1 101 x\r\n{lines}\r\n");
        check_response(head.as_bytes(), false, key, &[Subprotocol::V12, Subprotocol::V11])
    }

    const GOOD: &str = "Connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    /// W-08
    #[test]
    fn a_server_may_choose_no_subprotocol_or_an_offered_one() {
        assert!(response(GOOD).unwrap().is_some());
        assert!(
            response(&format!("{GOOD}Sec-WebSocket-Protocol: v11.stomp\r\n")).unwrap().is_some()
        );
    }

    /// W-09
    #[test]
    fn a_subprotocol_that_was_not_offered_fails() {
        for name in ["stomp", "v10.stomp", "v12.stomp, v11.stomp", ""] {
            let outcome = response(&format!("{GOOD}Sec-WebSocket-Protocol: {name}\r\n"));
            assert!(matches!(outcome, Err(ConnectError::Subprotocol(_))), "{name}");
        }
    }

    #[test]
    fn an_answer_against_the_rules_fails() {
        for bad in [
            GOOD.replace("s3pP", "s3pQ"),
            GOOD.replace("WebSocket", "h2c"),
            GOOD.replace("Upgrade\r", "close\r"),
            format!("{GOOD}Sec-WebSocket-Extensions: permessage-deflate\r\n"),
        ] {
            assert!(matches!(response(&bad), Err(ConnectError::Handshake(_))), "{bad}");
        }
    }

    /// W-08
    #[test]
    fn the_versions_are_offered_highest_first() {
        let names = subprotocols(Versions::ALL);
        assert_eq!(names, [Subprotocol::V12, Subprotocol::V11, Subprotocol::V10]);
        assert_eq!(subprotocols(Versions::NONE.with(Version::V1_1)), [Subprotocol::V11]);
    }
}
