use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::frames::escaped;
use crate::{LoadError, source};

/// Most subscriptions of a connection: a server may refuse more.
const EACH: usize = 1000;

/// Connections that hold subscriptions, over TCP, and do nothing else
///
/// What they subscribe to are topics that nobody sends to. They end with the value.
#[derive(Debug)]
pub struct Ballast {
    server: SocketAddr,
    login: String,
    passcode: String,
    connections: Vec<TcpStream>,
    subscriptions: usize,
}

impl Ballast {
    /// None yet, of this server.
    #[must_use]
    pub fn new(server: SocketAddr, login: &str, passcode: &str) -> Self {
        let (login, passcode) = (login.to_owned(), passcode.to_owned());
        Self { server, login, passcode, connections: Vec::new(), subscriptions: 0 }
    }

    /// Connects until there are so many connections, with one subscription each.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub fn connect(&mut self, connections: usize) -> Result<(), LoadError> {
        while self.connections.len() < connections {
            self.open(1)?;
        }
        Ok(())
    }

    /// Subscribes until there are so many subscriptions, a thousand to a connection.
    ///
    /// # Errors
    ///
    /// What the server refuses.
    pub fn subscribe(&mut self, subscriptions: usize) -> Result<(), LoadError> {
        while self.subscriptions < subscriptions {
            self.open(EACH.min(subscriptions - self.subscriptions))?;
        }
        Ok(())
    }

    fn open(&mut self, subscriptions: usize) -> Result<(), LoadError> {
        let mut frames = format!(
            "CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\nlogin:{}\npasscode:{}\n\n\0",
            escaped(&self.login),
            escaped(&self.passcode)
        );
        for number in 0..subscriptions {
            let all = self.subscriptions + number;
            let receipt = if number + 1 == subscriptions { "receipt:all\n" } else { "" };
            frames.push_str(&format!(
                "SUBSCRIBE\nid:{number}\ndestination:/topic/ballast.{all}\n{receipt}\n\0"
            ));
        }
        let socket = source::socket(self.server)?;
        socket.connect(&self.server.into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(frames.as_bytes())?;
        let mut answers = BufReader::new(&stream);
        loop {
            let mut frame = Vec::new();
            answers.read_until(0, &mut frame)?;
            let frame = String::from_utf8_lossy(&frame);
            let mut lines = frame.trim_start().lines();
            match lines.next() {
                Some("CONNECTED") => {}
                Some("RECEIPT") => break,
                Some(_) => {
                    let reason = lines.find_map(|line| line.strip_prefix("message:"));
                    return Err(LoadError::Server(reason.unwrap_or("no RECEIPT").to_owned()));
                }
                None => return Err(LoadError::Lost("before the RECEIPT".to_owned())),
            }
        }
        self.connections.push(stream);
        self.subscriptions += subscriptions;
        Ok(())
    }
}
