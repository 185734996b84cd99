//! What the tests are made of.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use mq_bridge::testkit::servers::ActiveMq;
use mq_bridge::{
    Broker, Confirm, Delivery, Message, Publish, Source, StompRelay, StompRelayConfig,
    SubscribeOptions, Subscription,
};
use stomp_codec::{Command, Decoder, Frame, Item, Limits, Mode, Version, encode};
use tokio::time::timeout;

pub(crate) use crate::remote_backend::steps::*;

pub(crate) fn config(server: &ActiveMq) -> StompRelayConfig {
    config_of(&format!("stomp://{}", server.stomp_addr()))
}

pub(crate) fn config_of(url: &str) -> StompRelayConfig {
    StompRelayConfig::new(url).with_options(patient()).with_response_timeout(PATIENCE)
}

pub(crate) async fn start() -> ActiveMq {
    ActiveMq::start().await.unwrap()
}

pub(crate) async fn open(server: &ActiveMq) -> StompRelay {
    StompRelay::open(config(server)).await.unwrap()
}

pub(crate) async fn consume(
    broker: &StompRelay,
    source: Source,
    prefetch: u32,
    takeover: bool,
) -> Subscription {
    let options =
        SubscribeOptions::new().with_prefetch(prefetch, usize::MAX).with_takeover(takeover);
    broker.subscribe(source, options).await.unwrap()
}

pub(crate) async fn confirmed(confirm: Confirm) {
    timeout(PATIENCE, confirm).await.expect("no confirmation").unwrap();
}

pub(crate) async fn send(broker: &StompRelay, queue: &str, texts: &[&str]) {
    let publish =
        |text: &&str| broker.publish(Publish::to_queue(queue, Message::new((*text).to_owned())));
    confirmed(Confirm::all(texts.iter().map(publish).collect())).await;
}

pub(crate) async fn take(subscription: &mut Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let batch = timeout(PATIENCE, subscription.recv()).await.expect("nothing is delivered");
        taken.extend(batch.unwrap_or_else(|| panic!("{:?}", subscription.end_reason())));
    }
    taken
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|one| std::str::from_utf8(&one.message.body).unwrap()).collect()
}

/// Another program: a STOMP client that knows nothing of this crate.
pub(crate) struct Program {
    stream: TcpStream,
    decoder: Decoder,
    heard: BytesMut,
}

impl Program {
    pub(crate) fn connect(server: &ActiveMq) -> Self {
        Self::connect_to(server.stomp_addr())
    }

    pub(crate) fn connect_to(place: SocketAddr) -> Self {
        let stream = TcpStream::connect(place).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let decoder = Decoder::new(Mode::Lenient, Limits::DEFAULT);
        let mut program = Self { stream, decoder, heard: BytesMut::new() };
        let connect = Frame::new(Command::Connect).with_header("accept-version", "1.2");
        let connect = connect.with_header("host", "/").with_header("login", "guest");
        program.say(&connect.with_header("passcode", "guest"));
        assert_eq!(program.hear().command(), Command::Connected);
        program.decoder.set_version(Version::V1_2);
        program
    }

    pub(crate) fn say(&mut self, frame: &Frame) {
        let mut octets = BytesMut::new();
        encode(frame, Version::V1_2, &mut octets).unwrap();
        self.stream.write_all(&octets).unwrap();
    }

    /// Says it and waits until it has been done.
    pub(crate) fn ask(&mut self, frame: Frame) {
        self.say(&frame.with_header("receipt", "r"));
        assert_eq!(self.hear().command(), Command::Receipt);
    }

    /// How many messages are in a queue.
    pub(crate) fn browse(&mut self, queue: &str) -> usize {
        let browse = Frame::new(Command::Subscribe).with_header("destination", queue);
        self.say(&browse.with_header("id", "browser").with_header("browser", "true"));
        let mut count = 0;
        while !self.hear().has_header("browser") {
            count += 1;
        }
        count
    }

    pub(crate) fn hear(&mut self) -> Frame {
        loop {
            // Between frames there may be heart-beats.
            while let Some(item) = self.decoder.decode(&mut self.heard).unwrap() {
                if let Item::Frame(frame) = item {
                    return frame;
                }
            }
            let mut octets = [0; 4096];
            let count = self.stream.read(&mut octets).unwrap();
            assert!(count > 0, "the server has hung up");
            self.heard.extend_from_slice(&octets[..count]);
        }
    }
}
