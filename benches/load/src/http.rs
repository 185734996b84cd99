//! As much HTTP as it takes to get a token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::LoadError;

/// A token of the user, for the password.
pub(crate) fn token(server: SocketAddr, name: &str, password: &str) -> Result<String, LoadError> {
    let body = json!({ "name": name, "password": password }).to_string();
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "POST /api/v1/tokens HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.lines().next().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let token = serde_json::from_str::<Value>(body).ok();
    let token = token.and_then(|answer| answer["token"].as_str().map(str::to_owned));
    token.ok_or_else(|| LoadError::Server(format!("{name} gets no token: {status}")))
}
