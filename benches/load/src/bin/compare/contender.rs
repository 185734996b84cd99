use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use mq_bridge::testkit::servers::{ActiveMq, RabbitMq, ServerError};
use serde::{Deserialize, Serialize};
use stomp_load::{Keeping, Local, Target, beside};
use tokio::runtime::Runtime;

use super::Failure;
use super::work::{PEOPLE, Work};

/// Who is compared
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    ImServer,
    Forwarder,
    Rabbitmq,
    Activemq,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] =
        [Self::ImServer, Self::Forwarder, Self::Rabbitmq, Self::Activemq];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ImServer => "im-server",
            Self::Forwarder => "bare forwarder",
            Self::Rabbitmq => "RabbitMQ Web-STOMP",
            Self::Activemq => "ActiveMQ, TCP",
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The servers that run
pub(crate) struct Fleet {
    program: PathBuf,
    /// With everything in memory
    transient: Option<Local>,
    /// With everything in files
    durable: Option<Local>,
    forwarder: Option<Local>,
    rabbitmq: Option<RabbitMq>,
    activemq: Option<ActiveMq>,
    // The servers above need it to end.
    runtime: Runtime,
}

impl Fleet {
    pub(crate) fn start(contenders: &[Contender], program: PathBuf) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let has = |contender| contenders.contains(&contender);
        let mut fleet = Self {
            program,
            transient: None,
            durable: None,
            forwarder: None,
            rabbitmq: None,
            activemq: None,
            runtime,
        };
        if has(Contender::ImServer) {
            fleet.transient = Some(Local::im_server(&fleet.program, Keeping::Memory)?);
            fleet.durable = Some(Local::im_server(&fleet.program, Keeping::Files)?);
        }
        if has(Contender::Forwarder) {
            fleet.forwarder = Some(Local::forwarder(&beside("bare-forwarder")?)?);
        }
        if has(Contender::Rabbitmq) {
            fleet.rabbitmq = installed(fleet.runtime.block_on(RabbitMq::start()))?;
        }
        if has(Contender::Activemq) {
            fleet.activemq = installed(fleet.runtime.block_on(ActiveMq::start_to_measure()))?;
        }
        Ok(fleet)
    }

    /// Whether a contender is there.
    pub(crate) const fn runs(&self, contender: Contender) -> bool {
        match contender {
            Contender::ImServer => self.transient.is_some(),
            Contender::Forwarder => self.forwarder.is_some(),
            Contender::Rabbitmq => self.rabbitmq.is_some(),
            Contender::Activemq => self.activemq.is_some(),
        }
    }

    /// Where a contender is for this work, and what has to live as long as it runs.
    pub(crate) fn target(
        &self,
        work: &Work,
        contender: Contender,
    ) -> Result<(Target, Option<Local>), Failure> {
        let missing = || format!("{contender} does not run");
        if work.fresh {
            let fresh = match contender {
                Contender::ImServer => Some(Local::im_server(&self.program, Keeping::Memory)?),
                Contender::Forwarder => Some(Local::forwarder(&beside("bare-forwarder")?)?),
                _ => None,
            };
            if let Some(fresh) = fresh {
                return Ok((fresh.target().clone(), Some(fresh)));
            }
        }
        let local = match contender {
            Contender::ImServer if work.durable => &self.durable,
            Contender::ImServer => &self.transient,
            Contender::Forwarder => &self.forwarder,
            Contender::Rabbitmq => {
                let server = self.rabbitmq.as_ref().ok_or_else(missing)?;
                let target =
                    Target::new(server.web_stomp_url().parse()?).with_login("guest", "guest");
                let pid = listener(target.address.socket);
                return Ok((target.with_pid(pid), None));
            }
            Contender::Activemq => {
                let server = self.activemq.as_ref().ok_or_else(missing)?;
                let target = Target::new(format!("tcp://{}", server.stomp_nio_addr()).parse()?);
                let pid = listener(target.address.socket);
                return Ok((target.with_pid(pid), None));
            }
        };
        let local = local.as_ref().ok_or_else(missing)?;
        Ok((if work.people { local.people(PEOPLE)? } else { local.target().clone() }, None))
    }

    /// What they say of themselves, and this system of itself.
    pub(crate) fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        let mut put = |name: &str, program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).stderr(Stdio::null()).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            if let Some(line) = text.ok().as_deref().and_then(|text| text.lines().next()) {
                versions.insert(name.to_owned(), line.trim().to_owned());
            }
        };
        put("commit", "git", &["describe", "--always", "--dirty", "--abbrev=10"]);
        put("kernel", "uname", &["-sr"]);
        let query = ["-W", "-f", "${Version}"];
        if self.rabbitmq.is_some() {
            put("RabbitMQ", "dpkg-query", &[&query[..], &["rabbitmq-server"]].concat());
        }
        if self.activemq.is_some() {
            put("ActiveMQ", "dpkg-query", &[&query[..], &["activemq"]].concat());
        }
        versions
    }
}

/// A server that is not installed is left out.
fn installed<T>(started: Result<T, ServerError>) -> Result<Option<T>, Failure> {
    match started {
        Ok(server) => Ok(Some(server)),
        Err(error @ ServerError::Missing { .. }) => {
            eprintln!("compare: {error}; it is left out");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The process that listens on a port of this machine.
fn listener(socket: SocketAddr) -> Option<u32> {
    let wanted = format!(":{:04X}", socket.port());
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inodes: Vec<String> = sockets
        .iter()
        .flatten()
        .flat_map(|table| table.lines())
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&"0A") && fields.get(1)?.ends_with(&wanted);
            listens.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
        })
        .collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files
            .any(|file| {
                fs::read_link(file.path())
                    .is_ok_and(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
            })
            .then_some(pid)
    })
}
