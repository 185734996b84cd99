//! What nodes say to each other, and how one takes a source over from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::local::lock;
use crate::{BrokerError, Source, Target};

use super::admin::Admin;
use super::consumers::Consumers;
use super::failure::Lost;
use super::headers::{integer, octets, put};
use super::names::{Names, read_target, write_target};

const SOURCE: &str = "mq-source";
const COUNT: &str = "mq-count";
const LET_GO: &str = "mq-let-go";
const HAVE_LET_GO: &str = "mq-have-let-go";

/// How often it is looked whether the others have let go.
const EVERY: Duration = Duration::from_millis(10);
/// How often they are asked again.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long their word is waited for once none of them consumes any more: they may have died.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one node says to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// End your consumers of this source, give back what they hold, and say so.
    LetGo { source: Source, reply_to: ShortString },
    /// So many consumers of this source have ended, and given back what they held.
    HaveLetGo { source: Source, count: u64 },
}

impl Word {
    pub(super) fn read(properties: &BasicProperties) -> Option<Self> {
        let table = properties.headers().as_ref()?;
        let source = std::str::from_utf8(octets(table, SOURCE)?).ok()?;
        let source = match read_target(source)? {
            Target::Queue(name) => Source::Queue(name),
            Target::Topic(name) => Source::Durable(name),
        };
        match properties.kind().as_ref()?.as_str() {
            LET_GO => Some(Self::LetGo { source, reply_to: properties.reply_to().clone()? }),
            HAVE_LET_GO => {
                let count = u64::try_from(integer(table, COUNT)?).ok()?;
                Some(Self::HaveLetGo { source, count })
            }
            _ => None,
        }
    }

    fn write(&self) -> BasicProperties {
        let mut table = FieldTable::default();
        let mut source = |source: &Source| {
            let name = Arc::clone(source.name());
            let target = match source {
                Source::Queue(_) => Target::Queue(name),
                _ => Target::Topic(name),
            };
            put(&mut table, SOURCE, AMQPValue::LongString(write_target(&target).into()));
        };
        let properties = BasicProperties::default();
        let properties = match self {
            Self::LetGo { source: of, reply_to } => {
                source(of);
                properties.with_type(LET_GO.into()).with_reply_to(reply_to.clone())
            }
            Self::HaveLetGo { source: of, count } => {
                source(of);
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                put(&mut table, COUNT, AMQPValue::LongLongInt(count));
                properties.with_type(HAVE_LET_GO.into())
            }
        };
        properties.with_headers(table)
    }
}

/// The words of this node.
pub(super) struct Control {
    /// On the connection that publishes, which alone the broker stops when it runs out of memory.
    channel: Channel,
    names: Arc<Names>,
    /// The queue of this node.
    own: ShortString,
    admin: Arc<Admin>,
    consumers: Arc<Consumers>,
    /// How many consumers have ended for the sources that are being taken over here.
    taking: Mutex<HashMap<Source, watch::Sender<u64>>>,
    lost: Lost,
}

impl Control {
    pub(super) async fn open(
        connection: &Connection,
        names: Arc<Names>,
        own: ShortString,
        admin: Arc<Admin>,
        consumers: Arc<Consumers>,
        lost: Lost,
    ) -> lapin::Result<Self> {
        let channel = connection.create_channel().await?;
        Ok(Self { channel, names, own, admin, consumers, taking: Mutex::default(), lost })
    }

    async fn say(
        &self,
        exchange: ShortString,
        key: ShortString,
        word: &Word,
    ) -> Result<(), BrokerError> {
        let options = BasicPublishOptions::default();
        let said = self.channel.basic_publish(exchange, key, options, &[], word.write()).await;
        said.map(drop).map_err(|error| self.lost.fail(&error))
    }

    /// Does what other nodes ask for until the link is lost.
    pub(super) async fn run(&self, mut words: mpsc::UnboundedReceiver<Word>) {
        while let Some(word) = words.recv().await {
            match word {
                Word::LetGo { reply_to, .. } if reply_to == self.own => {}
                Word::LetGo { source, reply_to } => {
                    let Ok(count) = self.consumers.let_go(&source).await else { return };
                    if count > 0 {
                        tracing::debug!(%source, count, "another node has taken over");
                        let word = Word::HaveLetGo { source, count: count as u64 };
                        if self.say(ShortString::default(), reply_to, &word).await.is_err() {
                            return;
                        }
                    }
                }
                Word::HaveLetGo { source, count } => {
                    if let Some(taking) = lock(&self.taking).get(&source) {
                        taking.send_modify(|sum| *sum += count);
                    }
                }
            }
        }
    }

    /// Ends the consumers of all other nodes, and starts one here before anybody else can take over.
    pub(super) async fn take_over(
        &self,
        source: &Source,
        queue: &ShortString,
        start: impl Future<Output = Result<(), BrokerError>>,
    ) -> Result<(), BrokerError> {
        let name = self.names.lock(source)?;
        let mut waited = EVERY;
        while !self.admin.lock(&name).await? {
            sleep(waited).await;
            waited = (waited * 2).min(ASK_EVERY / 4);
        }
        let taken = async {
            self.end_others(source, queue).await?;
            start.await
        };
        let taken = taken.await;
        self.admin.delete(&name).await?;
        taken
    }

    async fn end_others(&self, source: &Source, queue: &ShortString) -> Result<(), BrokerError> {
        let not_declared = || BrokerError::not_declared(source);
        let found = self.admin.find(queue).await?.ok_or_else(not_declared)?;
        if found.consumers == 0 && found.certain {
            return Ok(());
        }
        let (taking, mut ended) = watch::channel(0);
        lock(&self.taking).insert(source.clone(), taking);
        let _forget = Forget { control: self, source };
        let mut consumers = found.consumers;
        let mut asked: Option<Instant> = None;
        loop {
            if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                let word = Word::LetGo { source: source.clone(), reply_to: self.own.clone() };
                self.say(self.names.control.clone(), ShortString::default(), &word).await?;
                asked = Some(Instant::now());
            }
            let now = self.admin.find(queue).await?.ok_or_else(not_declared)?;
            consumers = consumers.max(now.consumers);
            if now.consumers == 0 && now.certain {
                break;
            }
            sleep(EVERY).await;
        }
        // They are gone from the queue before they have given everything back.
        let _ = timeout(LAST_WORDS, ended.wait_for(|ended| *ended >= consumers)).await;
        Ok(())
    }
}

/// Ends the count of a source that was being taken over.
struct Forget<'a> {
    control: &'a Control,
    source: &'a Source,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.control.taking).remove(self.source);
    }
}
