// Everything that the page knows, apart from how it is shown and how it came.

import { Conversation } from "./conversation.js";
import { parseConversationId } from "./format.js";

const TYPING_MS = 6000;

export class Model {
  constructor(me, outbox) {
    this.me = me;
    this.outbox = outbox;
    this.conversations = new Map();
    /** user -> { presence, lastSeen }; `presence` is `online`, `away` or `offline` */
    this.presence = new Map();
    /** The connection: `state` and `retryAt` as in StompClient; whether it ever stood; whether another tab has the device now. */
    this.link = { state: "idle", retryAt: null, wasConnected: false, takenOver: false };
    /** The list has been fetched once. */
    this.ready = false;
  }

  /** The conversation of this id, made if need be; null where the id is none of mine. */
  conversation(id) {
    const known = this.conversations.get(id);
    if (known) return known;
    if (!parseConversationId(id, this.me)) return null;
    const conversation = new Conversation(id, this.me);
    this.conversations.set(id, conversation);
    return conversation;
  }

  /** Takes the answer of GET /conversations. */
  mergeSnapshot(list) {
    const listed = new Set();
    for (const snapshot of list) {
      const conversation = this.conversation(snapshot.id);
      if (!conversation) continue;
      listed.add(snapshot.id);
      const last = snapshot.last_message;
      conversation.merge({ ...snapshot, last_message: last ? fromRest(last, snapshot.last_seq) : null });
      for (const { user, online, away } of snapshot.members) {
        const presence = away ? "away" : online ? "online" : "offline";
        if (!this.presence.has(user)) this.presence.set(user, { presence, lastSeen: null });
      }
    }
    for (const conversation of this.conversations.values()) {
      if (conversation.kind === "group" && conversation.real && !listed.has(conversation.id)) conversation.left = true;
    }
    this.ready = true;
  }

  /** Takes a stored message. True where it was new. */
  addMessage(message) {
    const conversation = this.conversation(message.conversation);
    if (!conversation) return false;
    if (message.from === this.me && message.key) this.outbox.remove(message.key);
    return conversation.add(message);
  }

  /** Takes `typing`, `read` or `delivered`. */
  addSignal({ kind, conversation: id, from, upTo }, now) {
    const conversation = this.conversations.get(id);
    if (!conversation) return;
    if (kind === "typing") {
      if (from !== this.me) conversation.typing.set(from, now + TYPING_MS);
    } else if (Number.isSafeInteger(upTo)) {
      conversation.mark(kind, from, upTo);
    }
  }

  setPresence(user, presence, lastSeen) {
    this.presence.set(user, { presence, lastSeen: lastSeen ?? this.presence.get(user)?.lastSeen ?? null });
  }

  get connected() {
    return this.link.state === "connected";
  }

  /** `online`, `away` or `offline`. Without a connection nobody is known to be there. */
  presenceOf(user) {
    if (!this.connected) return "offline";
    return user === this.me ? "online" : (this.presence.get(user)?.presence ?? "offline");
  }

  /** Whether a device of this person is connected, be it away. */
  isOnline(user) {
    return this.presenceOf(user) !== "offline";
  }

  /** What the list shows, the latest first. */
  get listed() {
    const shown = [...this.conversations.values()].filter((one) => one.real || this.outbox.of(one.id).length > 0);
    return shown.sort((a, b) => this.#activity(b) - this.#activity(a));
  }

  #activity(conversation) {
    const pending = this.outbox.of(conversation.id).at(-1)?.created ?? 0;
    return Math.max(pending, conversation.lastMessage?.timestamp ?? 0);
  }

  get unread() {
    let sum = 0;
    for (const conversation of this.conversations.values()) sum += conversation.unread;
    return sum;
  }
}

/** A stored message as REST gives it: with all that happened to it up to the seq `asOf`. */
export function fromRest(json, asOf = json.seq) {
  return {
    id: json.id,
    conversation: json.conversation,
    seq: json.seq,
    from: json.from,
    timestamp: json.timestamp,
    kind: json.kind,
    body: json.body_encoding === "base64" ? fromBase64(json.body) : json.body,
    key: json.headers?.["idempotency-key"] ?? null,
    replyTo: json.headers?.["in-reply-to"] ?? null,
    attachment: attachmentOf((name) => json.headers?.[name]),
    edited: json.edited ?? null,
    recalled: json.recalled ?? null,
    bare: json.headers?.stored === "metadata",
    reactions: new Map(Object.entries(json.reactions ?? {})),
    asOf,
  };
}

/** A stored message as a MESSAGE frame brings it. */
export function fromFrame(frame) {
  let body;
  try {
    body = frame.body;
  } catch {
    body = null;
  }
  return {
    id: frame.header("message-id"),
    conversation: frame.header("conversation"),
    seq: Number(frame.header("seq")),
    from: frame.header("from"),
    timestamp: Number(frame.header("timestamp")),
    kind: frame.header("kind") ?? "message",
    body,
    key: frame.header("idempotency-key") ?? null,
    replyTo: frame.header("in-reply-to") ?? null,
    attachment: attachmentOf((name) => frame.header(name)),
    edited: numberOf(frame.header("edited")),
    recalled: numberOf(frame.header("recalled")),
    bare: frame.header("stored") === "metadata",
    reactions: new Map(),
    asOf: Number(frame.header("seq")),
  };
}

// What a message says of the file that goes with it: `{ id, type }`.
function attachmentOf(header) {
  const id = header("attachment");
  return id ? { id, type: header("x-attachment-type") ?? "" } : null;
}

const numberOf = (text) => (text === undefined ? null : Number(text));

// Octets that are not text have no words to show: null says so.
function fromBase64(text) {
  try {
    const octets = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(octets);
  } catch {
    return null;
  }
}
