// One signed-in person on this device: ties the model to the STOMP connection and the REST calls.

import { ApiError } from "./api.js";
import { searchQuery } from "./format.js";
import { fromFrame, fromRest } from "./model.js";
import { randomKey } from "./outbox.js";
import { StompClient, StompError } from "./stomp.js";

const PAGE = 50;
// Messages on their way at once; more wait in the outbox, so that a lost connection repeats little.
const WINDOW = 32;
const TYPING_EVERY_MS = 3000;
// Signals of one burst of messages are said once.
const SIGNAL_DELAY_MS = 150;
const SNAPSHOT_RETRY_MS = 3000;
// The server knows a key for a day. What went out before that and got no receipt is not sent again without being asked.
const KEY_LIFE_MS = 23 * 3_600_000;
const MAX_WATCHED = 500;
// Pages on the way to a message far back.
const LONG_PAGE = 200;
const SIGNALS = new Set(["typing", "read", "delivered"]);

/**
 * Options: `api`, `model`, `device`, `token`, `url`, `clock`; `onChange()` after each change of the model,
 * `onArrival(conversation, message)` before a live message is added, `onSignedOut(reason)` where the server no longer
 * takes the token.
 */
export class Session {
  #options;
  #api;
  #model;
  #client;
  #connection = 0;
  #inFlight = new Set();
  #signals = new Map();
  #signalTimer = null;
  #watched = new Set();
  #refused = new Set();
  #lastTyping = new Map();
  #snapshotTimer = null;
  #fetching = new Map();
  #away = false;

  constructor(options) {
    this.#options = options;
    this.#api = options.api;
    this.#model = options.model;
    this.#client = new StompClient({
      url: options.url,
      clock: options.clock,
      headers: () => ({ login: this.#model.me, passcode: options.token, device: options.device }),
      onState: () => this.#stateChanged(),
      onConnected: () => this.#connected(),
      onError: (error) => this.#failed(error),
      ...options.stomp,
    });
  }

  get #outbox() {
    return this.#model.outbox;
  }

  start() {
    this.#client.start();
  }

  stop() {
    clearTimeout(this.#signalTimer);
    clearTimeout(this.#snapshotTimer);
    this.#client.stop();
  }

  /** Tries to connect now: the network is back, the person asked, or the tab is in front again. */
  retryNow() {
    this.#client.retryNow();
  }

  /** Takes the device back from the other tab. */
  takeBack() {
    this.#outbox.load();
    this.#model.link.takenOver = false;
    this.#client.start();
  }

  // --- what the person does ---

  /** Writes a text to a conversation. It is kept until the server has it. */
  sendText(conversation, body, replyTo = null, attachment = null) {
    const { id, destination } = conversation;
    this.#outbox.add({ conversation: id, destination, body, replyTo, attachment, created: Date.now() });
    this.#lastTyping.delete(id);
    this.#flush();
    this.#changed();
  }

  retrySend(key) {
    this.#outbox.retry(key);
    this.#flush();
    this.#changed();
  }

  discard(key) {
    this.#outbox.remove(key);
    this.#changed();
  }

  /** Uploads a file, then writes a message that refers to it. Fails with the server's reason. */
  async sendFile(conversation, file) {
    const id = await this.#api.upload(conversation.id, file);
    this.sendText(conversation, file.name, null, { id, type: file.type });
  }

  /** The content of a file that goes with a message. */
  download(attachment) {
    return this.#api.download(attachment.id);
  }

  /** Edits or recalls a message, or reacts to it. Fails with the server's reason. */
  async change(conversation, kind, target, body = "") {
    const key = randomKey();
    const receipt = await this.#api.change({ to: conversation.destination, kind, target: target.id, body, key });
    this.#model.addMessage({
      id: receipt.message_id,
      conversation: conversation.id,
      seq: receipt.seq,
      from: this.#model.me,
      timestamp: receipt.timestamp,
      kind,
      body,
      key,
      replyTo: target.id,
    });
    this.#fillGaps(conversation);
    this.#changed();
  }

  /** Says that something is being written; not more often than the others need to hear it. */
  typing(conversation) {
    const now = Date.now();
    const last = this.#lastTyping.get(conversation.id) ?? 0;
    if (!this.#client.connected || !this.#reachable(conversation) || now - last < TYPING_EVERY_MS) return;
    this.#lastTyping.set(conversation.id, now);
    this.#client.send(conversation.destination, { headers: { kind: "typing" } });
  }

  /** Everything up to `seq` has been seen. */
  markRead(conversation, seq) {
    if (!conversation.mark("read", this.#model.me, seq)) return;
    this.#signal(conversation, "read", seq);
    this.#changed();
  }

  /** Fetches the last page of a conversation's history where it is not there yet. Never fails: see `historyFailed`. */
  async open(conversation) {
    if (conversation.loaded || !conversation.real) return;
    await this.#history(conversation, undefined);
  }

  /** Fetches what lies between what is there and this `seq`. Never fails: see `historyFailed`. */
  async reach(conversation, seq) {
    await this.open(conversation);
    while (conversation.loaded && !conversation.complete && conversation.firstSeq > seq) {
      await this.#history(conversation, conversation.firstSeq, LONG_PAGE);
      if (conversation.historyFailed) return;
    }
  }

  /** Says whether somebody looks at this page. */
  setAway(away) {
    if (this.#away === away) return;
    this.#away = away;
    if (this.#client.connected) this.#sayPresence();
  }

  #sayPresence() {
    this.#client.send("/session/presence", { body: this.#away ? "away" : "online" });
  }

  /** Fetches what is older than what is there. Never fails: see `historyFailed`. */
  async loadOlder(conversation) {
    if (!conversation.loaded || conversation.complete || conversation.firstSeq === null) return;
    await this.#history(conversation, conversation.firstSeq);
  }

  async createGroup(name, members) {
    await this.#api.createGroup(name, members);
    await this.#refresh();
    return this.#model.conversation(`group:${name}`);
  }

  async addMember(conversation, user) {
    await this.#api.addMember(conversation.name, user);
    await this.#refresh();
  }

  async removeMember(conversation, user) {
    await this.#api.removeMember(conversation.name, user);
    if (user === this.#model.me) conversation.left = true;
    await this.#refresh();
  }

  async changeMember(conversation, user, change) {
    if (change.role === "owner") await this.#api.handOver(conversation.name, user);
    else await this.#api.changeMember(conversation.name, user, change);
    await this.#refresh();
  }

  group(conversation) {
    return this.#api.group(conversation.name);
  }

  async changeGroup(conversation, settings) {
    await this.#api.changeGroup(conversation.name, settings);
    await this.#refresh();
  }

  /** My devices, and whom I have blocked. */
  async settings() {
    const [devices, blocked] = await Promise.all([this.#api.devices(), this.#api.blocked()]);
    return { devices, blocked };
  }

  nameDevice(name, label) {
    return this.#api.nameDevice(name, label);
  }

  removeDevice(name) {
    return this.#api.removeDevice(name);
  }

  async block(user) {
    await this.#api.block(user);
    await this.#refresh();
  }

  unblock(user) {
    return this.#api.unblock(user);
  }

  findUsers(text) {
    return this.#api.findUsers(text);
  }

  /** The newest messages with the words of a text, of which the last one may only have begun. */
  async findMessages(text) {
    const query = searchQuery(text);
    return query ? (await this.#api.search(query)).map((message) => fromRest(message)) : [];
  }

  // --- the connection ---

  #stateChanged() {
    const { state, retryAt } = this.#client;
    Object.assign(this.#model.link, { state, retryAt });
    if (state === "connected") this.#model.link.wasConnected = true;
    if (state !== "connected") {
      this.#watched.clear();
      this.#lastTyping.clear();
      for (const { typing } of this.#model.conversations.values()) typing.clear();
    }
    this.#changed();
  }

  #failed(error) {
    if (error.message === "authentication failed") {
      this.#options.onSignedOut("Please sign in again.");
      return "stop";
    }
    if (/device.taken.over/.test(error.message)) {
      this.#model.link.takenOver = true;
      return "stop";
    }
    // A signal that is not allowed any more must not close the next connection too.
    this.#signals.clear();
    return "retry";
  }

  async #connected() {
    const client = this.#client;
    this.#connection += 1;
    const connection = this.#connection;
    await this.#refresh();
    if (!client.connected || connection !== this.#connection) return;
    client.subscribe("/inbox", (frame) => this.#received(frame), { ack: "client-individual" });
    this.#flush();
    this.#flushSignals();
    // To send is to be back: this comes after all that waited.
    if (this.#away) this.#sayPresence();
    for (const conversation of this.#model.conversations.values()) this.#watch(conversation);
  }

  // Brings the list up to date, and with it the markers and states that were only told while we were away.
  async #refresh() {
    clearTimeout(this.#snapshotTimer);
    this.#snapshotTimer = null;
    try {
      this.#model.mergeSnapshot(await this.#api.conversations());
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 401)) this.#refreshSoon(SNAPSHOT_RETRY_MS);
      return;
    }
    for (const conversation of this.#model.conversations.values()) this.#fillGaps(conversation);
    this.#changed();
  }

  #refreshSoon(ms = 200) {
    this.#snapshotTimer ??= setTimeout(() => this.#refresh(), ms);
  }

  #received(frame) {
    const kind = frame.header("kind") ?? "message";
    if (SIGNALS.has(kind)) {
      const upTo = Number(frame.header("up-to"));
      const signal = { kind, conversation: frame.header("conversation"), from: frame.header("from"), upTo };
      this.#model.addSignal(signal, Date.now());
    } else if (frame.header("seq") !== undefined) {
      this.#arrived(fromFrame(frame));
    }
    this.#client.ack(frame);
    this.#changed();
  }

  #arrived(message) {
    const { me } = this.#model;
    const conversation = this.#model.conversation(message.conversation);
    if (!conversation) return;
    const wasReal = conversation.real;
    this.#options.onArrival(conversation, message);
    if (!this.#model.addMessage(message)) return;
    if (!wasReal || message.kind === "member") this.#refreshSoon();
    if (!wasReal && conversation.peer) this.#watch(conversation);
    if (message.from !== me) this.#signal(conversation, "delivered", message.seq);
    this.#fillGaps(conversation);
  }

  // --- the outbox ---

  #flush() {
    if (!this.#client.connected) return;
    for (const entry of this.#outbox.entries) {
      if (this.#inFlight.size >= WINDOW) return;
      if (entry.error || this.#inFlight.has(entry.key)) continue;
      if (entry.tried && Date.now() - entry.created > KEY_LIFE_MS) {
        this.#outbox.fail(entry.key, "it is more than a day old, and may have been sent already");
      } else {
        this.#transmit(entry);
      }
    }
  }

  async #transmit(entry) {
    this.#inFlight.add(entry.key);
    this.#outbox.tried(entry.key);
    let again = true;
    try {
      const receipt = await this.#client.send(entry.destination, {
        headers: headersOf(entry),
        body: entry.body,
        receipt: true,
      });
      this.#stored(entry, receipt);
    } catch (error) {
      // The connection was lost: the entry stays and goes again on the next one. Refused: the person decides.
      again = false;
      if (error instanceof StompError && !error.retry) {
        this.#outbox.fail(entry.key, error.message);
        this.#changed();
      }
    }
    this.#inFlight.delete(entry.key);
    if (again) this.#flush();
  }

  #stored(entry, receipt) {
    const seq = Number(receipt.header("seq"));
    this.#outbox.remove(entry.key);
    const conversation = this.#model.conversation(receipt.header("conversation") ?? entry.conversation);
    if (conversation && seq > 0) {
      this.#model.addMessage({
        id: receipt.header("message-id"),
        conversation: conversation.id,
        seq,
        from: this.#model.me,
        timestamp: Number(receipt.header("timestamp")),
        kind: "message",
        body: entry.body,
        key: entry.key,
        replyTo: entry.replyTo ?? null,
        attachment: entry.attachment ?? null,
        asOf: seq,
      });
      this.#fillGaps(conversation);
      this.#watch(conversation);
    }
    this.#changed();
  }

  // --- signals ---

  #signal(conversation, kind, seq) {
    const waiting = this.#signals.get(conversation.id) ?? {};
    waiting[kind] = Math.max(waiting[kind] ?? 0, seq);
    this.#signals.set(conversation.id, waiting);
    this.#signalTimer ??= setTimeout(() => this.#flushSignals(), SIGNAL_DELAY_MS);
  }

  #flushSignals() {
    clearTimeout(this.#signalTimer);
    this.#signalTimer = null;
    if (!this.#client.connected) return;
    for (const [id, { delivered = 0, read = 0 }] of this.#signals) {
      const conversation = this.#model.conversations.get(id);
      if (!conversation || !this.#reachable(conversation)) continue;
      // What is read has been delivered.
      if (delivered > read) this.#sendSignal(conversation, "delivered", delivered);
      if (read > 0) this.#sendSignal(conversation, "read", read);
    }
    this.#signals.clear();
  }

  #sendSignal({ destination }, kind, upTo) {
    this.#client.send(destination, { headers: { kind, "up-to": upTo } });
  }

  #reachable(conversation) {
    return conversation.real && !conversation.left;
  }

  // --- presence ---

  #watch(conversation) {
    if (!this.#client.connected || !this.#reachable(conversation)) return;
    const others = conversation.peer ? [conversation.peer] : conversation.others;
    for (const user of others) {
      if (user === this.#model.me || this.#watched.size >= MAX_WATCHED) continue;
      if (this.#watched.has(user) || this.#refused.has(user)) continue;
      this.#watched.add(user);
      const { ready } = this.#client.subscribe(`/presence/${user}`, (frame) => this.#presence(user, frame));
      ready.catch((error) => {
        if (error instanceof StompError && !error.retry) this.#refused.add(user);
      });
    }
  }

  #presence(user, frame) {
    const seen = frame.header("last-seen");
    this.#model.setPresence(user, frame.header("presence"), seen === undefined ? null : Number(seen));
    this.#changed();
  }

  // --- history ---

  async #history(conversation, before, limit = PAGE) {
    await this.#once(`${conversation.id} ${before}`, async () => {
      try {
        const page = await this.#api.history(conversation.id, { before, limit });
        conversation.addHistory(this.#adopt(page), before);
        conversation.historyFailed = false;
      } catch {
        conversation.historyFailed = true;
      }
    });
    this.#fillGaps(conversation);
    this.#changed();
  }

  async #fillGaps(conversation) {
    const gap = conversation.loaded ? conversation.nextGap() : null;
    if (!gap || !this.#client.connected) return;
    await this.#once(`${conversation.id} gaps`, async () => {
      // My own messages are on their way as receipts: most holes close by themselves.
      await new Promise((resolve) => setTimeout(resolve, 300));
      for (let hole = conversation.nextGap(); hole; hole = conversation.nextGap()) {
        const page = await this.#api.history(conversation.id, { after: hole.after, limit: 200 });
        const { messages } = this.#adopt(page);
        for (const message of messages) conversation.add(message);
        conversation.gapAsked(hole);
        this.#changed();
      }
    }).catch(() => {});
  }

  // A message of mine in the history has been stored: it need not be sent again.
  #adopt(page) {
    const messages = page.messages.map((message) => fromRest(message, page.last_seq));
    for (const { from, key } of messages) {
      if (from === this.#model.me && key) this.#outbox.remove(key);
    }
    return { ...page, messages };
  }

  // Runs a task of this name once at a time; who asks meanwhile waits for the one that runs.
  #once(name, task) {
    let running = this.#fetching.get(name);
    if (!running) {
      running = task().finally(() => this.#fetching.delete(name));
      this.#fetching.set(name, running);
    }
    return running;
  }

  #changed() {
    this.#options.onChange();
  }
}

function headersOf({ key, replyTo, attachment }) {
  const headers = { "idempotency-key": key };
  if (replyTo) headers["in-reply-to"] = replyTo;
  if (attachment) Object.assign(headers, { attachment: attachment.id, "x-attachment-type": attachment.type });
  return headers;
}
