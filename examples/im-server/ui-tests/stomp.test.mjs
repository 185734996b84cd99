import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock, fakeSockets, settle } from "./support.mjs";
import { ConnectionLost, StompClient, StompError } from "../ui/stomp.js";

function start(options = {}) {
  const clock = new FakeClock();
  const { sockets, FakeSocket, latest } = fakeSockets();
  const log = [];
  const client = new StompClient({
    url: "ws://host.example/ws",
    clock,
    WebSocket: FakeSocket,
    random: () => 1,
    headers: () => ({ login: "alice", passcode: "secret" }),
    onState: (state) => log.push(state),
    ...options,
  });
  client.start();
  return { client, clock, sockets, latest, log };
}

test("CONNECT says who, where and how often", () => {
  const { client, latest, log } = start();
  assert.deepEqual(latest().protocols, ["v12.stomp"]);
  latest().open();
  const connect = latest().sent[0];
  assert.equal(connect.command, "CONNECT");
  assert.equal(connect.header("accept-version"), "1.2");
  assert.equal(connect.header("host"), "host.example");
  assert.equal(connect.header("login"), "alice");
  assert.equal(connect.header("heart-beat"), "10000,10000");
  latest().say("CONNECTED", { version: "1.2" });
  assert.equal(client.state, "connected");
  assert.deepEqual(log, ["connecting", "connected"]);
});

test("a receipt resolves the SEND that asked for it", async () => {
  const { client, latest } = start();
  latest().accept();
  const first = client.send("/user/bob", { body: "one", receipt: true });
  const second = client.send("/user/bob", { body: "two", receipt: true });
  const [one, two] = latest().frames("SEND");
  latest().receipt(two, { seq: 2 });
  latest().receipt(one, { seq: 1 });
  assert.equal((await first).header("seq"), "1");
  assert.equal((await second).header("seq"), "2");
});

test("an unanswered SEND fails when the connection is lost, and nothing is sent without one", async () => {
  const { client, latest } = start();
  latest().accept();
  const waiting = client.send("/user/bob", { body: "x", receipt: true });
  latest().lose();
  await assert.rejects(waiting, ConnectionLost);
  await assert.rejects(client.send("/user/bob", { receipt: true }), ConnectionLost);
  assert.throws(() => client.send("/user/bob"), ConnectionLost);
});

test("ERROR fails the frame that it names, and the rest as lost", async () => {
  const { client, latest } = start();
  latest().accept();
  const guilty = client.send("/group/x", { receipt: true });
  const innocent = client.send("/user/bob", { receipt: true });
  const receipt = latest().frames("SEND")[0].header("receipt");
  latest().say("ERROR", { message: "not a member", "receipt-id": receipt, retry: "true" }, "Ask the owner.");
  await assert.rejects(guilty, (error) => {
    assert.ok(error instanceof StompError);
    assert.equal(error.message, "not a member");
    assert.equal(error.advice, "Ask the owner.");
    return error.retry;
  });
  await assert.rejects(innocent, ConnectionLost);
  assert.equal(client.state, "waiting");
});

test("onError may end it for good", () => {
  const { client, latest, clock, sockets } = start({ onError: ({ message }) => (message === "device taken over" ? "stop" : "retry") });
  latest().accept();
  latest().say("ERROR", { message: "device taken over" });
  assert.equal(client.state, "stopped");
  clock.advance(60_000);
  assert.equal(sockets.length, 1);
  client.start();
  assert.equal(client.state, "connecting");
});

test("messages reach their own subscription, and ACK and NACK name them", () => {
  const { client, latest } = start();
  latest().accept();
  const got = [];
  const inbox = client.subscribe("/inbox", (frame) => got.push(frame.body), { ack: "client-individual" });
  client.subscribe("/presence/bob", () => assert.fail("not for this one"));
  const frame = latest().frames("SUBSCRIBE")[0];
  assert.equal(frame.header("ack"), "client-individual");
  latest().say("MESSAGE", { subscription: inbox.id, ack: "a:1" }, "hi");
  assert.deepEqual(got, ["hi"]);
  client.ack({ header: (name) => (name === "ack" ? "a:1" : undefined) });
  assert.equal(latest().last("ACK").header("id"), "a:1");
  client.nack({ header: (name) => (name === "ack" ? "a:2" : undefined) });
  assert.equal(latest().last("NACK").header("id"), "a:2");
  client.ack({ header: () => undefined });
  assert.equal(latest().frames("ACK").length, 1);
  inbox.unsubscribe();
  latest().say("MESSAGE", { subscription: inbox.id }, "late");
  assert.deepEqual(got, ["hi"]);
  assert.equal(latest().last("UNSUBSCRIBE").header("id"), inbox.id);
});

test("`ready` tells when a subscription is live", async () => {
  const { client, latest } = start();
  latest().accept();
  const { ready } = client.subscribe("/inbox", () => {});
  latest().receipt(latest().last("SUBSCRIBE"), { "last-seq": 7 });
  assert.equal((await ready).header("last-seq"), "7");
});

test("binary and text messages are both read, and frames cut anywhere", () => {
  const { client, latest } = start();
  latest().accept();
  const got = [];
  const { id } = client.subscribe("/inbox", (frame) => got.push(frame.body));
  const text = `MESSAGE\nsubscription:${id}\n\nhello\0`;
  latest().raw(new TextEncoder().encode(text).buffer);
  latest().raw(text.slice(0, 20));
  latest().raw(text.slice(20) + text);
  assert.deepEqual(got, ["hello", "hello", "hello"]);
});

test("heart-beats go out before the server misses them, and only in silence", () => {
  const { client, latest, clock } = start();
  latest().accept("0,10000");
  clock.advance(8000);
  assert.deepEqual(latest().sent.slice(1), ["\n"]);
  clock.advance(4000);
  client.send("/user/bob", { body: "life" });
  clock.advance(7000);
  assert.equal(latest().sent.filter((one) => one === "\n").length, 1);
  clock.advance(1000);
  assert.equal(latest().sent.filter((one) => one === "\n").length, 2);
});

test("a silent server is given up, a heart-beat keeps it", () => {
  const { client, latest, clock } = start();
  latest().accept("10000,0");
  clock.advance(24_000);
  latest().raw("\n");
  clock.advance(24_000);
  assert.equal(client.state, "connected");
  clock.advance(1000);
  assert.equal(client.state, "waiting");
  assert.ok(latest().closed);
});

test("after a sleep the server gets a chance to show that it lives", () => {
  const { client, latest, clock } = start();
  latest().accept("10000,0");
  clock.sleep(3_600_000);
  clock.advance(0);
  assert.equal(client.state, "connected");
  assert.equal(latest().sent.at(-1), "\n");
  latest().raw("\n");
  clock.advance(20_000);
  assert.equal(client.state, "connected");
  clock.sleep(3_600_000);
  clock.advance(0);
  clock.advance(10_000);
  assert.equal(client.state, "waiting");
});

test("no heart-beats where either side wants none", () => {
  const { latest, clock, client } = start();
  latest().accept("0,0");
  clock.advance(3_600_000);
  assert.equal(latest().sent.length, 1);
  assert.equal(client.state, "connected");
});

test("it comes back by itself, each time waiting longer, up to the cap", () => {
  const { client, clock, sockets, latest } = start({ backoff: { base: 500, cap: 4000 } });
  const waits = [];
  for (let i = 0; i < 6; i += 1) {
    latest().lose();
    assert.equal(client.state, "waiting");
    const wait = client.retryAt - clock.now();
    waits.push(wait);
    clock.advance(wait - 1);
    assert.equal(sockets.length, i + 1);
    clock.advance(1);
    assert.equal(sockets.length, i + 2);
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 4000, 4000]);
});

test("the waiting time is spread, so that not all come back at once", () => {
  const { client, clock, latest } = start({ random: () => 0 });
  latest().lose();
  assert.equal(client.retryAt - clock.now(), 250);
});

test("after a good connection the first retry is quick again, after a short one it is not", () => {
  const { client, clock, latest } = start();
  latest().lose();
  clock.advance(500);
  latest().accept();
  latest().lose();
  assert.equal(client.retryAt - clock.now(), 1000);
  clock.advance(1000);
  latest().accept();
  clock.advance(10_000);
  latest().lose();
  assert.equal(client.retryAt - clock.now(), 500);
});

test("retryNow does not wait", () => {
  const { client, latest, sockets, clock } = start();
  latest().lose();
  client.retryNow();
  assert.equal(sockets.length, 2);
  client.retryNow();
  clock.advance(5000);
  assert.equal(sockets.length, 2);
});

test("a server that does not answer CONNECT is given up", () => {
  const { client, latest, clock } = start();
  latest().open();
  clock.advance(10_000);
  assert.equal(client.state, "waiting");
});

test("a socket that was given up is not listened to any more", async () => {
  const { client, clock, sockets, latest } = start();
  latest().accept();
  latest().lose();
  clock.advance(500);
  latest().accept();
  sockets[0].lose();
  sockets[0].say("ERROR", { message: "device taken over" });
  await settle();
  assert.equal(client.state, "connected");
});

test("stop says DISCONNECT and stays away", async () => {
  const { client, latest, clock, sockets } = start();
  latest().accept();
  const waiting = client.send("/user/bob", { receipt: true });
  client.stop();
  assert.equal(latest().sent.at(-1).command, "DISCONNECT");
  assert.ok(latest().closed);
  await assert.rejects(waiting, ConnectionLost);
  clock.advance(60_000);
  assert.equal(sockets.length, 1);
});

test("a frame that breaks the protocol ends the connection", () => {
  const { client, latest } = start();
  latest().accept();
  latest().raw("NONSENSE\n\n\0");
  assert.equal(client.state, "waiting");
});
