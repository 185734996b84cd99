//! As much HTTP as it takes to make people and to import conversations.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::{LoadError, Target, source};

/// How long the server may take for a call; it gives up before
const PATIENCE: Duration = Duration::from_secs(90);
/// Calls under way at a time: more of them share a commit
const AT_A_TIME: usize = 16;

/// A connection to the REST of a server, for a user
#[derive(Debug)]
pub(crate) struct Rest {
    stream: BufReader<TcpStream>,
    server: SocketAddr,
    token: String,
}

impl Rest {
    /// For who signs in to the target.
    pub(crate) fn open(target: &Target) -> Result<Self, LoadError> {
        let server = target.address.socket;
        let socket = source::socket(server)?;
        socket.connect(&server.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), server, token: target.passcode.clone() })
    }

    /// Does the same for each number, several at a time.
    pub(crate) fn for_each(
        target: &Target,
        numbers: Range<usize>,
        work: impl Fn(&mut Self, usize) -> Result<(), LoadError> + Sync,
    ) -> Result<(), LoadError> {
        let next = AtomicUsize::new(numbers.start);
        let some = || {
            let mut rest = Self::open(target)?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return Ok(());
                }
                // Where one fails the others need not go on.
                let stop = |_: &LoadError| next.store(numbers.end, Ordering::Relaxed);
                work(&mut rest, number).inspect_err(stop)?;
            }
        };
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..AT_A_TIME.min(numbers.len())).map(|_| scope.spawn(some)).collect();
            let gone = |_| Err(LoadError::Plan("a thread has ended".to_owned()));
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(gone))
        })
    }

    /// Makes a user, unless there is one of that name.
    pub(crate) fn make_user(&mut self, name: &str) -> Result<(), LoadError> {
        self.call("PUT", &format!("/users/{name}"), "application/json", b"{}")
    }

    /// Imports a conversation from the lines of an archive.
    pub(crate) fn import(&mut self, conversation: &str, lines: &[u8]) -> Result<(), LoadError> {
        let path = format!("/conversations/{conversation}/import");
        self.call("POST", &path, "application/x-ndjson", lines)
    }

    fn call(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<(), LoadError> {
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.server,
            self.token,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let status = self.line()?;
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
        }
        let mut answer = Vec::new();
        self.stream.by_ref().take(length).read_to_end(&mut answer)?;
        if status.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&answer);
        Err(LoadError::Server(format!("{method} {path}: {status} {answer}")))
    }

    fn line(&mut self) -> Result<String, LoadError> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(LoadError::Lost("in the middle of an answer".to_owned()));
        }
        Ok(line.trim_end().to_owned())
    }
}
