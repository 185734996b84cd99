//! Asking a server, in its own protocol, whether it is ready.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connects, says `question`, and reads until `answer` has come.
pub(super) async fn ask(port: u16, question: &[u8], answer: &[u8]) -> io::Result<()> {
    let asking = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(question).await?;
        let mut heard = Vec::new();
        while !heard.windows(answer.len()).any(|window| window == answer) {
            if stream.read_buf(&mut heard).await? == 0 {
                let heard = heard.escape_ascii();
                return Err(io::Error::other(format!("port {port} answered \"{heard}\"")));
            }
        }
        Ok(())
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Logs in over STOMP.
pub(super) async fn ask_stomp(port: u16, login: &str, passcode: &str) -> io::Result<()> {
    let connect =
        format!("CONNECT\naccept-version:1.2\nhost:/\nlogin:{login}\npasscode:{passcode}\n\n\0");
    ask(port, connect.as_bytes(), b"CONNECTED").await
}
