//! Redis Streams: a stream and a group as a queue; `XADD`, `XREADGROUP`, `XACK` and `XDEL`.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mq_bridge::testkit::servers;
use mq_bridge::{Redis, RedisConfig, RedisDurability};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisResult, cmd, pipe};
use tokio::task::JoinHandle;

use crate::bridge::Bridge;
use crate::contender::{Consumer, Contender, Outcome, Pair};

pub(crate) async fn start() -> Outcome<Pair> {
    let server = servers::Redis::start().await?;
    let config = RedisConfig::new(server.url()).with_durability(RedisDurability::Required);
    let bridge = Bridge(Arc::new(Redis::open(config).await?));
    let client = Client::open(server.url())?;
    let bare = Bare { commands: connect(&client).await?, client };
    Ok(Pair { bridge: Box::new(bridge), bare: Box::new(bare), _server: Box::new(server) })
}

async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&patient).await
}

struct Bare {
    client: Client,
    commands: MultiplexedConnection,
}

fn add(stream: &str, body: &Bytes) -> Cmd {
    cmd("XADD").arg(stream).arg("*").arg("body").arg(&body[..]).take()
}

#[async_trait]
impl Contender for Bare {
    async fn fresh_queue(&self, name: &str) -> Outcome {
        let mut calls = pipe();
        calls.cmd("DEL").arg(name).ignore();
        calls.cmd("XGROUP").arg(&["CREATE", name, "g", "0", "MKSTREAM"]).ignore();
        Ok(calls.exec_async(&mut self.commands.clone()).await?)
    }

    async fn publish(&self, queue: &str, body: Bytes) -> Outcome {
        Ok(add(queue, &body).exec_async(&mut self.commands.clone()).await?)
    }

    async fn consume(&self, queue: &str, prefetch: usize) -> Outcome<Box<dyn Consumer>> {
        let reading = connect(&self.client).await?;
        let mut read = cmd("XREADGROUP");
        read.arg(&["GROUP", "g", "c", "COUNT"]).arg(prefetch);
        read.arg(&["BLOCK", "0", "STREAMS", queue, ">"]);
        let (queue, commands) = (queue.to_owned(), self.commands.clone());
        Ok(Box::new(BareConsumer { reading, read, commands, queue, ack: None }))
    }

    async fn subscriptions(&self, count: usize) -> Outcome {
        for number in 0..count {
            self.fresh_queue(&format!("bench.{number}")).await?;
        }
        Ok(())
    }

    async fn publish_to_all(&self, count: usize, body: Bytes) -> Outcome {
        let mut calls = Pipeline::with_capacity(count);
        calls.atomic();
        for number in 0..count {
            calls.add_command(add(&format!("bench.{number}"), &body)).ignore();
        }
        Ok(calls.exec_async(&mut self.commands.clone()).await?)
    }
}

struct BareConsumer {
    reading: MultiplexedConnection,
    read: Cmd,
    commands: MultiplexedConnection,
    queue: String,
    ack: Option<JoinHandle<RedisResult<()>>>,
}

#[async_trait]
impl Consumer for BareConsumer {
    async fn take(&mut self) -> Outcome<usize> {
        let reply: StreamReadReply = self.read.query_async(&mut self.reading).await?;
        let ids: Vec<String> =
            reply.keys.into_iter().flat_map(|key| key.ids).map(|entry| entry.id).collect();
        self.finish().await?;
        let mut calls = pipe();
        calls.cmd("XACK").arg(&self.queue).arg("g").arg(&ids).ignore();
        calls.cmd("XDEL").arg(&self.queue).arg(&ids).ignore();
        let mut commands = self.commands.clone();
        self.ack = Some(tokio::spawn(async move { calls.exec_async(&mut commands).await }));
        Ok(ids.len())
    }

    async fn finish(&mut self) -> Outcome {
        match self.ack.take() {
            Some(ack) => Ok(ack.await??),
            None => Ok(()),
        }
    }
}
