//! An instant-messaging server: the gateway crates, assembled, with a web chat.
//!
//! `im-server --help` lists what can be set.

mod broker;
mod command_line;
mod data_dir;
mod http;
mod identity;
mod options;
mod page;
mod plan;
mod server;
mod settings_file;
mod value;

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use command_line::Task;
use options::Options;
use plan::Plan;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a shell gets where the settings are at fault, as clap has it.
const INVALID: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    match Task::from_process() {
        Ok(Task::Run(options)) => run(options).await,
        Ok(Task::Check(options)) => check(options),
        Ok(Task::Init(path)) => match settings_file::init(&path) {
            Ok(()) => {
                println!("wrote {}", path.display());
                ExitCode::SUCCESS
            }
            Err(error) => failure(&error, ExitCode::FAILURE),
        },
        Err(error) => failure(&error, ExitCode::from(INVALID)),
    }
}

async fn run(options: Options) -> ExitCode {
    let plan = match Plan::new(options) {
        Ok(plan) => plan,
        Err(error) => return failure(&error, ExitCode::from(INVALID)),
    };
    match plan::filter(&plan.options.log) {
        Ok(filter) => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init(),
        Err(error) => return failure(&error, ExitCode::from(INVALID)),
    }
    match server::run(plan).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error, ExitCode::FAILURE),
    }
}

/// Says what would run.
fn check(options: Options) -> ExitCode {
    match Plan::new(options) {
        Ok(plan) => {
            match settings_file::shown(&plan.options) {
                Ok(shown) => print!("{shown}"),
                Err(error) => return failure(&error, ExitCode::FAILURE),
            }
            ExitCode::SUCCESS
        }
        Err(error) => failure(&error, ExitCode::from(INVALID)),
    }
}

fn failure(reason: &dyn Display, code: ExitCode) -> ExitCode {
    eprintln!("im-server: {reason}");
    code
}
