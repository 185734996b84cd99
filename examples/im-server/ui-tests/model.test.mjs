import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeStorage } from "./support.mjs";
import { fromRest, Model } from "../ui/model.js";
import { Outbox } from "../ui/outbox.js";

const ME = "alice";
const DIRECT = "direct:alice:bob";
const GROUP = "group:ops";

const newModel = () => new Model(ME, new Outbox(new FakeStorage(), ME));

const message = (seq, from, extra = {}) => ({
  id: `m${seq}`,
  conversation: DIRECT,
  seq,
  from,
  timestamp: 1000 + seq,
  kind: "message",
  body: `text ${seq}`,
  key: null,
  ...extra,
});

const rest = (one) => ({ ...one, body_encoding: "utf8", headers: one.key ? { "idempotency-key": one.key } : {} });

const snapshot = (changes = {}) => ({
  id: DIRECT,
  kind: "direct",
  destination: "/user/bob",
  title: "bob",
  last_seq: 5,
  unread: 2,
  last_message: rest(message(5, "bob")),
  members: [
    { user: "alice", role: "member", read: 3, delivered: 3, online: true },
    { user: "bob", role: "member", read: 4, delivered: 4, online: false },
  ],
  ...changes,
});

const group = (changes = {}) =>
  snapshot({
    id: GROUP,
    kind: "group",
    last_seq: 2,
    unread: 0,
    last_message: null,
    members: ["alice", "bob", "carol"].map((user) => ({ user, role: user === ME ? "owner" : "member", read: 0, delivered: 0, online: false })),
    ...changes,
  });

test("the same message counts once, however often and by whichever way it comes", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot()]);
  const conversation = model.conversation(DIRECT);
  assert.equal(model.addMessage(message(6, "bob")), true);
  assert.equal(model.addMessage(message(6, "bob")), false);
  conversation.addHistory({ messages: [4, 5, 6].map((seq) => message(seq, "bob")), first_seq: 1 }, undefined);
  assert.deepEqual(conversation.messages.map(({ seq }) => seq), [4, 5, 6]);
  assert.equal(conversation.unread, 3);
  assert.equal(model.unread, 3);
});

test("messages stand in the order of seq, in whichever order they come", () => {
  const model = newModel();
  for (const seq of [2, 5, 1, 4, 3]) model.addMessage(message(seq, "bob"));
  assert.deepEqual(model.conversation(DIRECT).messages.map(({ seq }) => seq), [1, 2, 3, 4, 5]);
  assert.equal(model.conversation(DIRECT).lastMessage.seq, 5);
});

test("what comes again after a reconnect is not counted as unread again", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot()]);
  model.addMessage(message(4, "bob"));
  model.addMessage(message(5, "bob"));
  assert.equal(model.conversation(DIRECT).unread, 2);
});

test("reading moves forward only, and counts what is left", () => {
  const model = newModel();
  const conversation = model.conversation(DIRECT);
  for (let seq = 1; seq <= 5; seq += 1) model.addMessage(message(seq, seq === 3 ? ME : "bob"));
  assert.equal(conversation.unread, 2);
  assert.equal(conversation.mark("read", ME, 4), true);
  assert.equal(conversation.unread, 1);
  assert.equal(conversation.mark("read", ME, 2), false);
  assert.equal(conversation.unread, 1);
  conversation.mark("read", ME, 5);
  assert.equal(conversation.unread, 0);
});

test("reading on another device of mine counts here", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot()]);
  model.addSignal({ kind: "read", conversation: DIRECT, from: ME, upTo: 5 }, 0);
  assert.equal(model.unread, 0);
});

test("to write is to have read", () => {
  const model = newModel();
  model.addMessage(message(1, "bob"));
  model.addMessage(message(2, ME));
  assert.equal(model.unread, 0);
});

test("an older snapshot does not undo what came meanwhile", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot()]);
  model.addMessage(message(6, "bob"));
  model.addSignal({ kind: "read", conversation: DIRECT, from: "bob", upTo: 6 }, 0);
  model.mergeSnapshot([snapshot()]);
  const conversation = model.conversation(DIRECT);
  assert.equal(conversation.lastSeq, 6);
  assert.equal(conversation.unread, 3);
  assert.equal(conversation.members.get("bob").read, 6);
});

test("a newer snapshot brings the unread count up to date", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot()]);
  model.mergeSnapshot([snapshot({ last_seq: 9, unread: 6 })]);
  assert.equal(model.unread, 6);
});

test("my message is sent, delivered, read as the other one says", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot()]);
  const conversation = model.conversation(DIRECT);
  const mine = message(6, ME);
  model.addMessage(mine);
  assert.equal(conversation.status(mine), "sent");
  model.addSignal({ kind: "delivered", conversation: DIRECT, from: "bob", upTo: 6 }, 0);
  assert.equal(conversation.status(mine), "delivered");
  model.addSignal({ kind: "read", conversation: DIRECT, from: "bob", upTo: 6 }, 0);
  assert.equal(conversation.status(mine), "read");
});

test("an answer shows that what was before it has been read", () => {
  const model = newModel();
  const conversation = model.conversation(DIRECT);
  const mine = message(1, ME);
  model.addMessage(mine);
  model.addMessage(message(2, "bob"));
  assert.equal(conversation.status(mine), "read");
});

test("in a group a message is read when all have read it, without those who came later", () => {
  const model = newModel();
  model.mergeSnapshot([group()]);
  const conversation = model.conversation(GROUP);
  const mine = message(3, ME, { conversation: GROUP });
  model.addMessage(mine);
  conversation.mark("read", "bob", 3);
  assert.equal(conversation.status(mine), "sent");
  conversation.mark("delivered", "carol", 3);
  assert.equal(conversation.status(mine), "delivered");
  conversation.mark("read", "carol", 3);
  assert.equal(conversation.status(mine), "read");
  const added = JSON.stringify({ action: "added", user: "dana" });
  model.addMessage(message(4, ME, { conversation: GROUP, kind: "member", body: added }));
  assert.ok(conversation.members.has("dana"));
  assert.equal(conversation.status(mine), "read");
  model.mergeSnapshot([group({ last_seq: 4, members: [...group().members, { user: "dana", role: "member" }] })]);
  assert.equal(conversation.status(mine), "read");
});

test("member messages change the members, old ones in the history do not", () => {
  const model = newModel();
  model.mergeSnapshot([group()]);
  const conversation = model.conversation(GROUP);
  const change = (seq, action, user) =>
    message(seq, ME, { conversation: GROUP, kind: "member", body: JSON.stringify({ action, user }) });
  model.addMessage(change(1, "removed", "bob"));
  assert.ok(conversation.members.has("bob"));
  model.addMessage(change(3, "removed", "carol"));
  assert.ok(!conversation.members.has("carol"));
  model.addMessage(change(4, "removed", ME));
  assert.equal(conversation.left, true);
  model.addMessage(message(5, ME, { conversation: GROUP, kind: "member", body: "no JSON" }));
  assert.equal(conversation.lastSeq, 5);
});

test("a group that the server does not list any more is left", () => {
  const model = newModel();
  model.mergeSnapshot([group(), snapshot()]);
  model.mergeSnapshot([snapshot()]);
  assert.equal(model.conversation(GROUP).left, true);
  assert.equal(model.conversation(DIRECT).left, false);
});

test("holes are found, and asked about once", () => {
  const model = newModel();
  const conversation = model.conversation(DIRECT);
  conversation.loaded = true;
  for (const seq of [1, 2, 5, 6, 9]) model.addMessage(message(seq, "bob"));
  const first = conversation.nextGap();
  assert.deepEqual(first, { after: 2, before: 5 });
  conversation.gapAsked(first);
  assert.deepEqual(conversation.nextGap(), { after: 6, before: 9 });
  for (const seq of [7, 8]) model.addMessage(message(seq, "bob"));
  assert.equal(conversation.nextGap(), null);
});

test("what the list says is newer than what is loaded is a hole, too", () => {
  const model = newModel();
  const conversation = model.conversation(DIRECT);
  conversation.loaded = true;
  model.addMessage(message(1, "bob"));
  model.mergeSnapshot([snapshot()]);
  assert.deepEqual(conversation.nextGap(), { after: 1, before: 6 });
});

test("the beginning of a conversation is known when it is reached", () => {
  const conversation = newModel().conversation(DIRECT);
  conversation.addHistory({ messages: [message(2, "bob"), message(3, "bob")], first_seq: 1 }, undefined);
  assert.equal(conversation.complete, false);
  conversation.addHistory({ messages: [message(1, "bob")], first_seq: 1 }, 2);
  assert.equal(conversation.complete, true);
});

test("typing ends with a message, or by itself", () => {
  const model = newModel();
  const conversation = model.conversation(DIRECT);
  model.addSignal({ kind: "typing", conversation: DIRECT, from: "bob" }, 1000);
  assert.deepEqual(conversation.typists(2000), ["bob"]);
  assert.deepEqual(conversation.typists(10_000), []);
  model.addSignal({ kind: "typing", conversation: DIRECT, from: "bob" }, 10_000);
  model.addMessage(message(1, "bob"));
  assert.deepEqual(conversation.typists(10_001), []);
});

test("the list shows the latest first, and what is waiting to be sent", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot(), group({ last_message: rest(message(2, "bob", { conversation: GROUP, timestamp: 5000 })) })]);
  assert.deepEqual(model.listed.map(({ id }) => id), [GROUP, DIRECT]);
  model.conversation("direct:alice:zoe");
  assert.equal(model.listed.length, 2);
  model.outbox.add({ conversation: "direct:alice:zoe", destination: "/user/zoe", body: "hi", created: 9000 });
  assert.equal(model.listed[0].id, "direct:alice:zoe");
});

test("a conversation that cannot be mine is not made", () => {
  const model = newModel();
  for (const id of ["direct:bob:carol", "group:", "room:x", "direct:alice", "", "__proto__"]) {
    assert.equal(model.conversation(id), null, id);
  }
});

test("the outbox survives a reload, in order and with its keys", () => {
  const storage = new FakeStorage();
  const outbox = new Outbox(storage, ME);
  const entry = (body) => outbox.add({ conversation: DIRECT, destination: "/user/bob", body, created: 1 });
  const [one, two, three] = ["one", "two", "three"].map(entry);
  outbox.remove(two.key);
  outbox.fail(one.key, "not allowed");
  const again = new Outbox(storage, ME);
  assert.deepEqual(again.entries.map(({ key, body, error }) => [key, body, error]), [
    [one.key, "one", "not allowed"],
    [three.key, "three", null],
  ]);
  again.retry(one.key);
  assert.deepEqual(again.entries.map(({ body }) => body), ["three", "one"]);
  assert.equal(new Outbox(storage, "bob").entries.length, 0);
});

test("a broken or forbidden storage does not stop the page", () => {
  const storage = { getItem: () => "{not json", setItem: () => { throw new Error("quota"); } };
  const outbox = new Outbox(storage, ME);
  const { key } = outbox.add({ conversation: DIRECT, destination: "/user/bob", body: "x", created: 1 });
  assert.ok(outbox.has(key));
});

test("what came while there was no connection is marked as new where the conversation is open", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot({ last_seq: 3, unread: 0 })]);
  const conversation = model.conversation(DIRECT);
  conversation.addHistory({ messages: [1, 2, 3].map((seq) => message(seq, "bob")), first_seq: 1 }, undefined);
  assert.equal(conversation.divider, null);
  model.mergeSnapshot([snapshot({ last_seq: 5, unread: 2 })]);
  assert.equal(conversation.divider, 3);
});

test("members who come and go are nothing to read", () => {
  const model = newModel();
  model.addMessage(message(1, "bob", { conversation: GROUP, kind: "member", body: JSON.stringify({ action: "added", user: ME }) }));
  assert.equal(model.unread, 0);
});

test("without a connection nobody is known to be there", () => {
  const model = newModel();
  model.setPresence("bob", "online", null);
  assert.equal(model.isOnline("bob"), false);
  model.link.state = "connected";
  assert.equal(model.isOnline("bob"), true);
  assert.equal(model.isOnline(ME), true);
});

const changed = (seq, from, kind, target, body = "") => message(seq, from, { kind, body, replyTo: `m${target}`, asOf: seq });

test("an edit, a reaction and a recall change the message that they are about", () => {
  const model = newModel();
  model.mergeSnapshot([snapshot({ last_seq: 0, unread: 0, last_message: null })]);
  const conversation = model.conversation(DIRECT);
  model.addMessage(message(1, "bob", { asOf: 1 }));
  assert.equal(conversation.unread, 1);
  model.addMessage(changed(2, "bob", "edit", 1, "better"));
  model.addMessage(changed(3, "alice", "reaction", 1, "👍"));
  const target = conversation.find("m1");
  assert.deepEqual([target.body, target.edited, [...target.reactions]], ["better", 2, [["alice", "👍"]]]);
  model.addMessage(changed(4, "alice", "reaction", 1, ""));
  assert.equal(target.reactions.size, 0);
  model.addMessage(message(5, "bob", { asOf: 5 }));
  model.addMessage(message(6, "bob", { asOf: 6 }));
  assert.equal(conversation.unread, 2);
  model.addMessage(changed(7, "bob", "recall", 5));
  assert.deepEqual([conversation.find("m5").recalled, conversation.find("m5").body, conversation.unread], [7, "", 1]);
  model.addMessage(changed(8, "bob", "edit", 5, "again"));
  assert.equal(conversation.find("m5").body, "", "what was recalled stays so");
});

test("what the history has told already is not undone by an older change", () => {
  const model = newModel();
  const conversation = model.conversation(DIRECT);
  const now = fromRest({ ...rest(message(1, "bob")), body: "third", edited: 4, reactions: { alice: "b" } }, 5);
  conversation.addHistory({ messages: [now, changed(2, "bob", "edit", 1, "second"), changed(3, "alice", "reaction", 1, "a")], first_seq: 1 }, undefined);
  assert.deepEqual([now.body, [...now.reactions]], ["third", [["alice", "b"]]]);
  model.addMessage(changed(6, "bob", "edit", 1, "fourth"));
  assert.equal(now.body, "fourth");
});

test("a group is shown by its title and called by its name", () => {
  const model = newModel();
  model.mergeSnapshot([group({ title: "Operations" })]);
  const conversation = model.conversation(GROUP);
  assert.deepEqual([conversation.title, conversation.name, conversation.destination], ["Operations", "ops", "/group/ops"]);
  assert.ok(conversation.mayRecall(message(1, "bob")), "the owner recalls what others said");
});
