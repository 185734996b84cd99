//! An instant-messaging server: the gateway crates, assembled, with a web chat.
//!
//! `im-server --help` lists what can be set.

mod broker;
mod data_dir;
mod http;
mod options;
mod page;
mod server;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use options::Options;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::from_process();
    let filter = EnvFilter::builder()
        .with_env_var("IM_LOG")
        .with_default_directive(LevelFilter::INFO.into())
        .from_env();
    let filter = match filter {
        Ok(filter) => quiet(filter),
        Err(error) => return failure(&format_args!("IM_LOG is no log filter: {error}")),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match server::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

/// The client of RabbitMQ calls each "no" of the broker an error, asked questions included: it is
/// heard only where it is named.
fn quiet(filter: EnvFilter) -> EnvFilter {
    let named = std::env::var("IM_LOG").is_ok_and(|filter| filter.contains("lapin"));
    match "lapin=off".parse() {
        Ok(off) if !named => filter.add_directive(off),
        _ => filter,
    }
}

fn failure(reason: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("im-server: {reason}");
    ExitCode::FAILURE
}
