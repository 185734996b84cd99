//! What can be done to a server.

mod connect;
mod flow;
mod idle;
mod opening;
mod traffic;

use std::time::Duration;

pub use connect::{ConnectRate, Storm};
pub use idle::Idle;
pub use traffic::{Load, Shape, Traffic};

use crate::connection::{Plan, Subscribe};
use crate::target::numbered;
use crate::{LoadError, Target};

/// How a message is acknowledged
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ack {
    /// The server takes it for delivered once it is sent
    #[default]
    Auto,
    /// One ACK for each
    Individual,
}

impl Ack {
    const fn header(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Individual => "client-individual",
        }
    }
}

/// Longest time in which nothing of what is waited for may happen
const PATIENCE: Duration = Duration::from_secs(30);

fn plan(
    number: usize,
    destination: Option<String>,
    ack: Ack,
    headers: &[(String, String)],
) -> Plan {
    let subscribe = destination.map(|destination| Subscribe {
        destination,
        ack: ack.header(),
        headers: headers.to_vec(),
    });
    Plan { number, subscribe }
}

/// A destination: `{n}` is the number of the flow, `{run}` is different in each run, `{to}` is who is written to.
fn destination(text: &str, number: usize, run: &str, target: &Target, to: usize) -> String {
    let text = text.replace("{run}", run).replace("{to}", &target.login_of(to));
    numbered(&text, number)
}

/// Names the destinations of this run: what an earlier one has left in a queue must not come into this one.
fn run_name() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("{:x}", now.unwrap_or_default().as_micros())
}

fn too_long(what: &str) -> LoadError {
    LoadError::TimedOut(what.to_owned())
}
