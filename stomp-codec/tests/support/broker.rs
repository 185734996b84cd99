//! Server sessions around a small broker, as an application would put them together
//!
//! `/q` and `/queue/...` are queues: each message goes to one subscription and comes back where it is not
//! consumed. Other destinations are topics: a copy to each subscription. `/denied` is refused, `/read` only
//! be subscribed to, `/write` only sent to. A message that was returned three times is dropped.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use stomp_codec::server::{self, AckMode, Action, Event, SubscriptionId};
use stomp_codec::{Frame, SharedMessage, Version, view};

use super::{Wire, receipt_of};

#[derive(Clone)]
struct Stored {
    destination: String,
    message: SharedMessage,
    returned: u32,
}

struct Session {
    wire: Wire,
    subscriptions: Vec<(SubscriptionId, String, AckMode)>,
    is_gone: bool,
}

pub struct Broker {
    sessions: Vec<Session>,
    queues: HashMap<String, VecDeque<Stored>>,
    unsettled: HashMap<u32, Stored>,
    next: u32,
    /// `login` and `passcode` where signing in is required.
    pub user: Option<(String, String)>,
    pub config: server::Config,
    /// Destinations published to, in order.
    pub published: Vec<(String, Vec<u8>)>,
}

const MAX_RETURNS: u32 = 3;

impl Broker {
    pub fn new() -> Self {
        Self::with(server::Config::default())
    }

    pub fn with(config: server::Config) -> Self {
        Self {
            sessions: Vec::new(),
            queues: HashMap::new(),
            unsettled: HashMap::new(),
            next: 0,
            user: None,
            config,
            published: Vec::new(),
        }
    }

    /// A connection that has said nothing
    pub fn connect(&mut self) -> usize {
        let wire = Wire::new(self.config.clone());
        self.sessions.push(Session { wire, subscriptions: Vec::new(), is_gone: false });
        self.sessions.len() - 1
    }

    /// An open session of `version`
    pub fn open(&mut self, version: Version) -> usize {
        let session = self.connect();
        self.say(session, &format!("CONNECT\naccept-version:{version}\nhost:h\n\n\0"));
        let frames = self.frames(session);
        assert_eq!(frames.len(), 1, "{frames:?}");
        session
    }

    /// Writes to a session and lets everything happen that follows
    pub fn say(&mut self, session: usize, text: &str) {
        self.say_octets(session, text.as_bytes());
    }

    pub fn say_octets(&mut self, session: usize, octets: &[u8]) {
        self.sessions[session].wire.say_octets(octets);
        self.run();
    }

    /// Writes octet by octet
    pub fn dribble(&mut self, session: usize, text: &str) {
        for octet in text.bytes() {
            self.say_octets(session, &[octet]);
        }
    }

    /// The connection is lost
    pub fn drop(&mut self, session: usize) {
        let wire = &mut self.sessions[session].wire;
        wire.server.handle_eof(wire.now);
        self.run();
    }

    pub fn pass(&mut self, time: Duration) {
        for session in &mut self.sessions {
            session.wire.pass(time);
        }
        self.run();
    }

    pub fn wire(&mut self, session: usize) -> &mut Wire {
        &mut self.sessions[session].wire
    }

    /// The frames that a session got
    pub fn frames(&mut self, session: usize) -> Vec<Frame> {
        self.sessions[session].wire.frames()
    }

    /// The bodies of the MESSAGEs that a session got; no other frame may be among them
    #[track_caller]
    pub fn bodies(&mut self, session: usize) -> Vec<String> {
        self.frames(session)
            .into_iter()
            .map(|frame| {
                assert_eq!(frame.command(), stomp_codec::Command::Message, "{frame:?}");
                String::from_utf8(frame.body().to_vec()).unwrap()
            })
            .collect()
    }

    /// What a session got, as `COMMAND` or `MESSAGE:body` or `RECEIPT:id`
    pub fn trace(&mut self, session: usize) -> Vec<String> {
        let text = |frame: &Frame| match frame.command() {
            stomp_codec::Command::Message => {
                format!("MESSAGE:{}", String::from_utf8_lossy(frame.body()))
            }
            stomp_codec::Command::Receipt => {
                format!("RECEIPT:{}", frame.header("receipt-id").unwrap())
            }
            command => command.to_string(),
        };
        self.frames(session).iter().map(text).collect()
    }

    /// What a session says is refused: ERROR and the end; gives the ERROR
    #[track_caller]
    pub fn refused(&mut self, session: usize, text: &str) -> Frame {
        self.say(session, text);
        let mut frames = self.frames(session);
        let error = frames.pop().unwrap();
        assert_eq!(error.command(), stomp_codec::Command::Error, "{text:?}: {error:?}");
        assert!(frames.is_empty(), "{frames:?}");
        assert!(self.sessions[session].is_gone);
        error
    }

    pub fn is_gone(&self, session: usize) -> bool {
        self.sessions[session].is_gone
    }

    /// What a new subscriber of the queue would get now
    pub fn waiting(&self, queue: &str) -> Vec<String> {
        let text = |it: &Stored| String::from_utf8(it.message.body().to_vec()).unwrap();
        self.queues.get(queue).map(|queue| queue.iter().map(text).collect()).unwrap_or_default()
    }

    fn run(&mut self) {
        loop {
            let mut has_moved = false;
            for index in 0..self.sessions.len() {
                while let Some(event) = self.sessions[index].wire.event() {
                    has_moved = true;
                    self.act(index, event);
                }
            }
            has_moved |= self.dispatch();
            if !has_moved {
                return;
            }
        }
    }

    fn act(&mut self, index: usize, mut event: Event<u32>) {
        let now = self.sessions[index].wire.now;
        let receipt = receipt_of(&mut event);
        let fail = |broker: &mut Self, receipt| {
            let reply = server::ErrorReply::new("not allowed").receipt(receipt);
            broker.sessions[index].wire.server.fail(now, reply);
        };
        match event {
            Event::Connect { connect, .. } => {
                let is_welcome = self.user.as_ref().is_none_or(|(login, passcode)| {
                    connect.login().as_deref() == Some(login)
                        && connect.passcode().as_deref() == Some(passcode)
                });
                let wire = &mut self.sessions[index].wire;
                if is_welcome {
                    let accepted = server::Accepted::new(format!("session-{index}"));
                    wire.server.accept(now, accepted);
                } else {
                    wire.server.reject(now, "authentication failed");
                }
            }
            Event::Send { send, .. } => {
                if !may_send(&send) {
                    return fail(self, receipt);
                }
                self.publish(&send);
            }
            Event::Staged { send, .. } => {
                if !may_send(&send) {
                    return fail(self, receipt);
                }
            }
            Event::Subscribe { id, destination, ack, .. } => {
                if matches!(&*destination, "/denied" | "/write") {
                    return fail(self, receipt);
                }
                self.sessions[index].subscriptions.push((id, destination.to_string(), ack));
            }
            Event::Unsubscribe { id, returned, .. } => {
                self.sessions[index].subscriptions.retain(|(it, _, _)| *it != id);
                self.give_back(returned);
            }
            Event::Ack { tokens, .. } => self.consume(&tokens),
            Event::Nack { tokens, .. } | Event::Returned { tokens } => self.give_back(tokens),
            Event::Commit { actions, .. } => {
                for action in actions {
                    match action {
                        Action::Send(send) => self.publish(&send),
                        Action::Ack { tokens } => self.consume(&tokens),
                        Action::Nack { tokens } => self.give_back(tokens),
                        _ => unreachable!(),
                    }
                }
            }
            Event::Disconnect { .. } => {}
            Event::Closed { returned, .. } => {
                self.sessions[index].subscriptions.clear();
                self.sessions[index].is_gone = true;
                self.give_back(returned);
            }
            event => panic!("{event:?}"),
        }
        if let Some(token) = receipt {
            self.sessions[index].wire.server.receipt(token, &[]);
        }
    }

    pub fn publish(&mut self, send: &view::Send) {
        let destination = send.destination().unwrap().into_owned();
        let message_id = format!("m:{}", self.next);
        self.next += 1;
        self.published.push((destination.clone(), send.body().to_vec()));
        let message = SharedMessage::relay(send.frame(), &message_id, &[]).unwrap();
        if is_queue(&destination) {
            let stored = Stored { destination: destination.clone(), message, returned: 0 };
            self.queues.entry(destination).or_default().push_back(stored);
            return;
        }
        for index in 0..self.sessions.len() {
            for (id, wanted, _) in self.sessions[index].subscriptions.clone() {
                if wanted == destination {
                    let stored = Stored {
                        destination: destination.clone(),
                        message: message.clone(),
                        returned: 0,
                    };
                    let token = self.remember(stored);
                    let server = &mut self.sessions[index].wire.server;
                    server.deliver(&id, &message, token, false).unwrap();
                }
            }
        }
    }

    fn dispatch(&mut self) -> bool {
        let mut has_moved = false;
        for index in 0..self.sessions.len() {
            for (id, destination, ack) in self.sessions[index].subscriptions.clone() {
                while self.sessions[index].wire.server.window(&id) > 0 {
                    let next = self.queues.get_mut(&destination).and_then(VecDeque::pop_front);
                    let Some(stored) = next else { break };
                    has_moved = true;
                    let (message, is_repeat) = (stored.message.clone(), stored.returned > 0);
                    let token = self.remember(stored);
                    let server = &mut self.sessions[index].wire.server;
                    server.deliver(&id, &message, token, is_repeat).unwrap();
                    if ack == AckMode::Auto {
                        self.consume(&[token]);
                    }
                }
            }
        }
        has_moved
    }

    fn remember(&mut self, stored: Stored) -> u32 {
        let token = self.next;
        self.next += 1;
        self.unsettled.insert(token, stored);
        token
    }

    fn consume(&mut self, tokens: &[u32]) {
        for token in tokens {
            self.unsettled.remove(token).unwrap();
        }
    }

    fn give_back(&mut self, tokens: Vec<u32>) {
        for token in tokens.into_iter().rev() {
            let mut stored = self.unsettled.remove(&token).unwrap();
            stored.returned += 1;
            if stored.returned <= MAX_RETURNS && is_queue(&stored.destination) {
                self.queues.entry(stored.destination.clone()).or_default().push_front(stored);
            }
        }
    }
}

fn is_queue(destination: &str) -> bool {
    destination.starts_with("/q")
}

fn may_send(send: &view::Send) -> bool {
    !matches!(&*send.destination().unwrap(), "/denied" | "/read")
}
