import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock, fakeSockets, FakeStorage, settle } from "./support.mjs";
import { ApiError } from "../ui/api.js";
import { Model } from "../ui/model.js";
import { Outbox } from "../ui/outbox.js";
import { Session } from "../ui/session.js";

const DIRECT = "direct:alice:bob";

const listed = (lastSeq = 0) => ({
  id: DIRECT,
  kind: "direct",
  destination: "/user/bob",
  last_seq: lastSeq,
  unread: 0,
  last_message: null,
  members: ["alice", "bob"].map((user) => ({ user, role: "member", read: lastSeq, delivered: lastSeq, online: false })),
});

function start({ storage = new FakeStorage(), api = {} } = {}) {
  const clock = new FakeClock();
  const { sockets, FakeSocket, latest } = fakeSockets();
  const model = new Model("alice", new Outbox(storage, "alice"));
  const ended = [];
  const session = new Session({
    api: { conversations: async () => [listed()], history: async () => ({ messages: [], first_seq: 1 }), ...api },
    model,
    device: "web-1",
    token: "t",
    url: "ws://host/ws",
    clock,
    onChange: () => {},
    onArrival: () => {},
    onSignedOut: (reason) => ended.push(reason),
    stomp: { WebSocket: FakeSocket, random: () => 1 },
  });
  session.start();
  return { session, model, clock, sockets, latest, ended, storage };
}

async function connect(page) {
  page.latest().accept();
  await settle();
}

async function reconnect(page) {
  page.clock.advance(15_000);
  await connect(page);
}

const texts = (socket) => socket.frames("SEND").filter((frame) => !frame.header("kind"));
const inboxId = (socket) => socket.frames("SUBSCRIBE").find((frame) => frame.header("destination") === "/inbox").header("id");

const arrive = (socket, seq, from = "bob", headers = {}) =>
  socket.say(
    "MESSAGE",
    { subscription: inboxId(socket), "message-id": `m${seq}`, ack: `a${seq}`, from, conversation: DIRECT, seq, timestamp: seq, ...headers },
    `text ${seq}`,
  );

test("it signs in with token and device, and reads the inbox with acknowledgement", async () => {
  const page = start();
  await connect(page);
  const [connectFrame] = page.latest().sent;
  assert.equal(connectFrame.header("login"), "alice");
  assert.equal(connectFrame.header("passcode"), "t");
  assert.equal(connectFrame.header("device"), "web-1");
  const inbox = page.latest().frames("SUBSCRIBE")[0];
  assert.equal(inbox.header("destination"), "/inbox");
  assert.equal(inbox.header("ack"), "client-individual");
});

test("P2: a message is acknowledged when it is in the model, and not before", async () => {
  const page = start();
  await connect(page);
  arrive(page.latest(), 1);
  assert.equal(page.model.conversation(DIRECT).messages.length, 1);
  assert.equal(page.latest().last("ACK").header("id"), "a1");
});

test("P3: what is delivered again is acknowledged again, and shown once", async () => {
  const page = start();
  await connect(page);
  arrive(page.latest(), 1);
  page.latest().lose();
  await reconnect(page);
  arrive(page.latest(), 1, "bob", { redelivered: "true" });
  assert.equal(page.model.conversation(DIRECT).messages.length, 1);
  assert.equal(page.latest().last("ACK").header("id"), "a1");
  assert.equal(page.model.unread, 1);
});

test("P1: a message leaves the outbox with its receipt", async () => {
  const page = start();
  await connect(page);
  const conversation = page.model.conversation(DIRECT);
  page.session.sendText(conversation, "hello");
  const [send] = texts(page.latest());
  assert.equal(send.header("destination"), "/user/bob");
  assert.equal(page.model.outbox.entries.length, 1);
  page.latest().receipt(send, { seq: 1, conversation: DIRECT, "message-id": "m1", timestamp: 77 });
  await settle();
  assert.equal(page.model.outbox.entries.length, 0);
  const [message] = conversation.messages;
  assert.deepEqual([message.seq, message.from, message.body, message.timestamp], [1, "alice", "hello", 77]);
});

test("P4: what has no receipt goes again in order, with the same keys", async () => {
  const page = start();
  await connect(page);
  const conversation = page.model.conversation(DIRECT);
  for (const text of ["one", "two", "three"]) page.session.sendText(conversation, text);
  const before = texts(page.latest());
  page.latest().receipt(before[0], { seq: 1, conversation: DIRECT, "message-id": "m1", timestamp: 1 });
  await settle();
  page.latest().lose();
  await reconnect(page);
  const after = texts(page.latest());
  assert.deepEqual(after.map(({ body }) => body), ["two", "three"]);
  const key = (frame) => frame.header("idempotency-key");
  assert.deepEqual(after.map(key), before.slice(1).map(key));
  page.latest().receipt(after[0], { seq: 2, conversation: DIRECT, "message-id": "m2", timestamp: 2, duplicate: "true" });
  await settle();
  assert.deepEqual(conversation.messages.map(({ seq }) => seq), [1, 2]);
});

test("what was written offline and before a reload goes out when there is a connection", async () => {
  const storage = new FakeStorage();
  const first = start({ storage });
  first.session.sendText(first.model.conversation(DIRECT), "written offline");
  const second = start({ storage });
  await connect(second);
  assert.deepEqual(texts(second.latest()).map(({ body }) => body), ["written offline"]);
});

test("a refused message stays, marked, and does not stop the others", async () => {
  const page = start();
  await connect(page);
  page.session.sendText(page.model.conversation("direct:alice:nobody"), "refused");
  page.session.sendText(page.model.conversation(DIRECT), "fine");
  const receipt = texts(page.latest())[0].header("receipt");
  page.latest().say("ERROR", { message: "no such user", "receipt-id": receipt }, "");
  await settle();
  await reconnect(page);
  assert.deepEqual(texts(page.latest()).map(({ body }) => body), ["fine"]);
  const [refused] = page.model.outbox.of("direct:alice:nobody");
  assert.equal(refused.error, "no such user");
});

test("a message that may succeed later goes again", async () => {
  const page = start();
  await connect(page);
  page.session.sendText(page.model.conversation(DIRECT), "later");
  const receipt = texts(page.latest())[0].header("receipt");
  page.latest().say("ERROR", { message: "overloaded", "receipt-id": receipt, retry: "true" }, "");
  await settle();
  await reconnect(page);
  assert.deepEqual(texts(page.latest()).map(({ body }) => body), ["later"]);
});

test("P4: what may have been sent more than a day ago is not repeated without being asked", async () => {
  const storage = new FakeStorage();
  const day = 24 * 3_600_000;
  const entry = { conversation: DIRECT, destination: "/user/bob", created: Date.now() - day, error: null };
  const entries = [
    { ...entry, key: "k1", body: "perhaps sent", tried: true },
    { ...entry, key: "k2", body: "never sent", tried: false },
  ];
  storage.setItem("im.outbox.alice", JSON.stringify(entries));
  const page = start({ storage });
  await connect(page);
  assert.deepEqual(texts(page.latest()).map(({ body }) => body), ["never sent"]);
  assert.match(page.model.outbox.entries[0].error, /more than a day old/);
  page.session.retrySend("k1");
  assert.deepEqual(texts(page.latest()).map(({ body }) => body), ["never sent", "perhaps sent"]);
});

test("my message that is in the history already need not go again", async () => {
  const storage = new FakeStorage();
  const before = start({ storage });
  before.session.sendText(before.model.conversation(DIRECT), "stored");
  const [{ key }] = before.model.outbox.entries;
  const stored = { id: "m1", conversation: DIRECT, seq: 1, from: "alice", timestamp: 1, kind: "message", body: "stored", body_encoding: "utf8", headers: { "idempotency-key": key } };
  const page = start({ storage, api: { conversations: async () => [listed(1)], history: async () => ({ messages: [stored], first_seq: 1 }) } });
  const conversation = page.model.conversation(DIRECT);
  conversation.real = true;
  await page.session.open(conversation);
  assert.equal(page.model.outbox.entries.length, 0);
  assert.equal(conversation.messages.length, 1);
});

test("the outbox is sent in a window, so that much of it cannot flood the connection", async () => {
  const page = start();
  await connect(page);
  const conversation = page.model.conversation(DIRECT);
  for (let i = 1; i <= 40; i += 1) page.session.sendText(conversation, `text ${i}`);
  assert.equal(texts(page.latest()).length, 32);
  page.latest().receipt(texts(page.latest())[0], { seq: 1, conversation: DIRECT, "message-id": "m1", timestamp: 1 });
  await settle();
  assert.equal(texts(page.latest()).length, 33);
});

test("read says more than delivered, and both are said once for many", async () => {
  const page = start();
  await connect(page);
  for (let seq = 1; seq <= 5; seq += 1) arrive(page.latest(), seq);
  page.session.markRead(page.model.conversation(DIRECT), 5);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const signals = page.latest().frames("SEND").map((frame) => [frame.header("kind"), frame.header("up-to")]);
  assert.deepEqual(signals, [["read", "5"]]);
});

test("who is away says so, again on the next connection, and is back", async () => {
  const page = start();
  const said = () => page.latest().frames("SEND").filter((frame) => frame.header("destination") === "/session/presence").map(({ body }) => body);
  await connect(page);
  page.session.setAway(true);
  page.session.setAway(true);
  assert.deepEqual(said(), ["away"]);
  page.latest().lose();
  await reconnect(page);
  assert.deepEqual(said(), ["away"]);
  page.session.setAway(false);
  assert.deepEqual(said(), ["away", "online"]);
  await settle();
});

test("what lies between here and a message far back is fetched, and no more", async () => {
  const asked = [];
  const message = (seq) => ({ id: `m${seq}`, conversation: DIRECT, seq, from: "bob", timestamp: seq, kind: "message", body: "", headers: {} });
  const history = async (id, { before = 1001, limit }) => {
    asked.push([before, limit]);
    const first = Math.max(1, before - limit);
    return { messages: Array.from({ length: before - first }, (_, i) => message(first + i)), first_seq: 1, last_seq: 1000 };
  };
  const page = start({ api: { conversations: async () => [listed(1000)], history } });
  await connect(page);
  const conversation = page.model.conversation(DIRECT);
  await page.session.reach(conversation, 700);
  assert.deepEqual(asked, [[1001, 50], [951, 200], [751, 200]]);
  await page.session.reach(conversation, 700);
  assert.equal(asked.length, 3);
  await page.session.reach(conversation, 0);
  assert.equal(conversation.firstSeq, 1);
});

test("a refused presence is not asked for again", async () => {
  const page = start();
  await connect(page);
  const presence = (socket) => socket.frames("SUBSCRIBE").find((frame) => frame.header("destination") === "/presence/bob");
  const receipt = presence(page.latest()).header("receipt");
  page.latest().say("ERROR", { message: "not allowed", "receipt-id": receipt }, "");
  await settle();
  await reconnect(page);
  assert.equal(presence(page.latest()), undefined);
});

test("another tab that takes the device over ends this one, until it is taken back", async () => {
  const page = start();
  await connect(page);
  page.latest().say("ERROR", { message: "device taken over" }, "");
  assert.equal(page.model.link.takenOver, true);
  page.clock.advance(60_000);
  assert.equal(page.sockets.length, 1);
  page.session.takeBack();
  assert.equal(page.model.link.takenOver, false);
  assert.equal(page.sockets.length, 2);
});

test("a token that is not taken any more leads to the sign-in, not to endless attempts", async () => {
  const page = start();
  page.latest().open();
  page.latest().say("ERROR", { message: "authentication failed" }, "");
  assert.deepEqual(page.ended, ["Please sign in again."]);
  page.clock.advance(60_000);
  assert.equal(page.sockets.length, 1);
});

test("a list that cannot be fetched does not keep the messages away", async () => {
  const page = start({ api: { conversations: async () => { throw new ApiError(500, "broken"); } } });
  await connect(page);
  arrive(page.latest(), 1);
  assert.equal(page.model.conversation(DIRECT).messages.length, 1);
  page.session.stop();
});

test("two connections in a short time make one inbox each", async () => {
  let answer;
  const page = start({ api: { conversations: () => new Promise((resolve) => { answer = resolve; }) } });
  await connect(page);
  const first = answer;
  page.latest().lose();
  await reconnect(page);
  first([]);
  await settle();
  answer([]);
  await settle();
  const inboxes = page.latest().frames("SUBSCRIBE").filter((frame) => frame.header("destination") === "/inbox");
  assert.equal(inboxes.length, 1);
});
