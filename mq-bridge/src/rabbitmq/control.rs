//! What nodes say to each other, and how one takes a source over from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::local::lock;
use crate::remote::Inbox;
use crate::{BrokerError, EndReason, Source, Target};

use super::admin::Admin;
use super::consumers::{Consumers, Tag};
use super::failure::Lost;
use super::headers::{integer, octets, put};
use super::names::{Names, read_target, write_target};

const SOURCE: &str = "mq-source";
const COUNT: &str = "mq-count";
const TURN: &str = "mq-turn";
const LET_GO: &str = "mq-let-go";
const ANSWER: &str = "mq-let-go-answer";

/// How often it is looked whether the others have let go.
const EVERY: Duration = Duration::from_millis(10);
/// How often they are asked again.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long their word is waited for once none of them consumes any more: they may have died.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// When a consumer took over, in microseconds since 1970; of two the later one stays.
pub(super) type Turn = i64;

/// What one node says to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// End your consumers of this source, but for those with a later turn, give back what they hold,
    /// and say so.
    LetGo { source: Source, turn: Turn, reply_to: ShortString },
    /// So many consumers of this source have ended and given back what they held; one with this turn
    /// stays.
    Answer { source: Source, count: u64, later: Option<Turn> },
}

impl Word {
    pub(super) fn read(properties: &BasicProperties) -> Option<Self> {
        let table = properties.headers().as_ref()?;
        let source = std::str::from_utf8(octets(table, SOURCE)?).ok()?;
        let source = match read_target(source)? {
            Target::Queue(name) => Source::Queue(name),
            Target::Topic(name) => Source::Durable(name),
        };
        let turn = integer(table, TURN);
        match properties.kind().as_ref()?.as_str() {
            LET_GO => {
                Some(Self::LetGo { source, turn: turn?, reply_to: properties.reply_to().clone()? })
            }
            ANSWER => {
                let count = u64::try_from(integer(table, COUNT)?).ok()?;
                Some(Self::Answer { source, count, later: turn })
            }
            _ => None,
        }
    }

    fn write(&self) -> BasicProperties {
        let properties = BasicProperties::default();
        let mut table = FieldTable::default();
        let mut integer = |name, value| put(&mut table, name, AMQPValue::LongLongInt(value));
        let (properties, source) = match self {
            Self::LetGo { source, turn, reply_to } => {
                integer(TURN, *turn);
                (properties.with_type(LET_GO.into()).with_reply_to(reply_to.clone()), source)
            }
            Self::Answer { source, count, later } => {
                integer(COUNT, i64::try_from(*count).unwrap_or(i64::MAX));
                if let Some(later) = later {
                    integer(TURN, *later);
                }
                (properties.with_type(ANSWER.into()), source)
            }
        };
        let name = Arc::clone(source.name());
        let target = match source {
            Source::Queue(_) => Target::Queue(name),
            Source::Durable(_) | Source::Topic(_) => Target::Topic(name),
        };
        put(&mut table, SOURCE, AMQPValue::LongString(write_target(&target).into()));
        properties.with_headers(table)
    }
}

/// What the others have said about a source that is being taken over here.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    ended: u64,
    later: Option<Turn>,
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
    taking: Mutex<HashMap<Source, watch::Sender<Answers>>>,
    /// How many here have a lock, which is the connection's.
    locks: Mutex<HashMap<ShortString, usize>>,
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
        let (taking, locks) = (Mutex::default(), Mutex::default());
        Ok(Self { channel, names, own, admin, consumers, taking, locks, lost })
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
                Word::LetGo { source, turn, reply_to } => {
                    let Ok((count, later)) = self.consumers.let_go(&source, turn).await else {
                        return;
                    };
                    if count == 0 && later.is_none() {
                        continue;
                    }
                    tracing::debug!(%source, count, "another node takes over");
                    let word = Word::Answer { source, count, later };
                    if self.say(ShortString::default(), reply_to, &word).await.is_err() {
                        return;
                    }
                }
                Word::Answer { source, count, later } => {
                    if let Some(taking) = lock(&self.taking).get(&source) {
                        taking.send_modify(|answers| {
                            answers.ended += count;
                            answers.later = answers.later.max(later);
                        });
                    }
                }
            }
        }
    }

    /// Ends the consumers of all other nodes and starts one here, before anybody else can take over.
    /// One that had its turn on an earlier link gives way to those that had it later.
    pub(super) async fn take_over(
        &self,
        inbox: &Inbox<Tag>,
        queue: &ShortString,
        start: impl Future<Output = Result<(), BrokerError>>,
    ) -> Result<(), BrokerError> {
        let source = &inbox.source;
        let found = self.admin.find(queue).await?;
        let found = found.ok_or_else(|| BrokerError::not_declared(source))?;
        let before = inbox.generation().parse::<Turn>().ok();
        if before.is_some() && found.consumers == 0 && found.certain {
            return start.await;
        }
        let name = self.names.lock(source)?;
        let mut wait = EVERY;
        while !self.lock(&name).await? {
            sleep(wait).await;
            wait = (wait * 2).min(ASK_EVERY / 4);
        }
        let taken = async {
            match self.end_others(inbox, queue, before).await? {
                Some(turn) => {
                    inbox.set_generation(&turn.to_string());
                    start.await
                }
                None => {
                    inbox.end(EndReason::TakenOver);
                    Ok(())
                }
            }
        };
        let taken = taken.await;
        self.unlock(&name).await?;
        taken
    }

    /// Stops a consumer. Nobody takes over meanwhile: a classic queue has no consumer any more
    /// before it has got back what that one held, and would hand out what is newer first.
    pub(super) async fn leave(&self, inbox: &Inbox<Tag>) -> Result<(), BrokerError> {
        if !inbox.options.takeover || self.consumers.are_counted_until_empty() {
            return self.consumers.stop(inbox.id).await;
        }
        let name = self.names.lock(&inbox.source)?;
        let mut wait = EVERY;
        // Whoever takes over here waits for it, and who does so elsewhere asks to let go.
        while self.consumers.has(inbox.id) && !lock(&self.taking).contains_key(&inbox.source) {
            if self.lock(&name).await? {
                let stopped = self.consumers.stop(inbox.id).await;
                self.unlock(&name).await?;
                return stopped;
            }
            sleep(wait).await;
            wait = (wait * 2).min(ASK_EVERY / 4);
        }
        self.consumers.stop(inbox.id).await
    }

    /// Keeps other nodes from taking over; `false` if one of them has the lock.
    async fn lock(&self, name: &ShortString) -> Result<bool, BrokerError> {
        *lock(&self.locks).entry(name.clone()).or_default() += 1;
        let locked = self.admin.lock(name).await;
        if !matches!(locked, Ok(true)) {
            self.forget_lock(name);
        }
        locked
    }

    async fn unlock(&self, name: &ShortString) -> Result<(), BrokerError> {
        if self.forget_lock(name) { self.admin.delete(name).await } else { Ok(()) }
    }

    /// Whether nobody else here has it.
    fn forget_lock(&self, name: &ShortString) -> bool {
        let mut locks = lock(&self.locks);
        if let Some(count) = locks.get_mut(name) {
            *count -= 1;
            if *count > 0 {
                return false;
            }
            locks.remove(name);
        }
        true
    }

    /// Gives the turn of the consumer to come; none if another one has come after it.
    async fn end_others(
        &self,
        inbox: &Inbox<Tag>,
        queue: &ShortString,
        before: Option<Turn>,
    ) -> Result<Option<Turn>, BrokerError> {
        let source = &inbox.source;
        let (taking, mut answers) = watch::channel(Answers::default());
        lock(&self.taking).insert(source.clone(), taking);
        let _forget = Forget { control: self, source };
        let mut turn = before.unwrap_or_else(now);
        let mut consumers = 0;
        let mut asked: Option<Instant> = None;
        loop {
            let found = self.admin.find(queue).await?;
            let found = found.ok_or_else(|| BrokerError::not_declared(source))?;
            consumers = consumers.max(found.consumers);
            if found.consumers == 0 && found.certain && self.consumers.hold_nothing(source) {
                break;
            }
            match answers.borrow().later {
                Some(later) if later > turn => {
                    if before.is_some() {
                        return Ok(None);
                    }
                    // The clock over there is ahead.
                    turn = later + 1;
                    asked = None;
                }
                _ => {}
            }
            if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
                let (source, reply_to) = (source.clone(), self.own.clone());
                let word = Word::LetGo { source, turn, reply_to };
                self.say(self.names.control.clone(), ShortString::default(), &word).await?;
                asked = Some(Instant::now());
            }
            sleep(EVERY).await;
        }
        // They are gone from the queue before they have given everything back.
        let _ = timeout(LAST_WORDS, answers.wait_for(|answers| answers.ended >= consumers)).await;
        Ok(Some(turn))
    }
}

fn now() -> Turn {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Turn::try_from(since.as_micros()).unwrap_or(Turn::MAX)
}

/// Forgets the answers about a source that was being taken over.
struct Forget<'a> {
    control: &'a Control,
    source: &'a Source,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.control.taking).remove(self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood() {
        for source in [Source::queue("q"), Source::durable("a:b")] {
            let reply_to = ShortString::from("me");
            for word in [
                Word::LetGo { source: source.clone(), turn: 7, reply_to },
                Word::Answer { source: source.clone(), count: 2, later: None },
                Word::Answer { source: source.clone(), count: 0, later: Some(9) },
            ] {
                assert_eq!(Word::read(&word.write()), Some(word));
            }
        }
        assert_eq!(Word::read(&BasicProperties::default()), None);
    }
}
