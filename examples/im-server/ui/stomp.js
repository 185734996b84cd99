// A STOMP 1.2 client over WebSocket: receipts, acknowledgements, heart-beats both ways, and a connection that comes
// back by itself. Subscriptions belong to one connection: subscribe again in `onConnected`.

import { encodeFrame, FrameParser, ProtocolError } from "./frame.js";
import { pageClock } from "./clock.js";

/** The connection ended before the answer came. Whether the server did what was asked is unknown. */
export class ConnectionLost extends Error {
  name = "ConnectionLost";
}

/** The server answered with ERROR. `frame` is that frame; `retry` says that the same may succeed later. */
export class StompError extends Error {
  name = "StompError";

  constructor(frame) {
    super(frame.header("message") ?? "the server reported an error");
    this.frame = frame;
    this.retry = frame.header("retry") === "true";
    this.receiptId = frame.header("receipt-id");
  }

  /** What the server says can be done about it. */
  get advice() {
    try {
      return this.frame.body;
    } catch {
      return "";
    }
  }
}

// A peer counts as gone after this many of its heart-beat intervals without an octet from it.
const TOLERANCE = 2.5;
const HANDSHAKE_MS = 10_000;
// A connection that has lived this long was a good one: the next try is quick again.
const STABLE_MS = 10_000;

/**
 * States: `idle`, `connecting`, `connected`, `waiting` (until `retryAt`, in the clock's time), `stopped`.
 *
 * Options:
 * - `url`: `ws:` or `wss:` address.
 * - `headers()`: the headers of CONNECT, asked for at each attempt.
 * - `onState(state)`: after each change of state.
 * - `onConnected(frame)`: on CONNECTED.
 * - `onError(error)`: a StompError for the ERROR that ends the connection. Answer `"stop"` to stay disconnected.
 * - `heartBeat`: `[send, expect]` in milliseconds, 0 for none.
 * - `backoff`: `{ base, cap }` in milliseconds.
 */
export class StompClient {
  #options;
  #clock;
  #socket = null;
  #parser = null;
  #receipts = new Map();
  #subscriptions = new Map();
  #lastId = 0;
  #attempt = 0;
  #connectedAt = 0;
  #lastSent = 0;
  #lastReceived = 0;
  #timers = new Map();

  /** The present state; see the class. */
  state = "idle";
  /** When the next attempt starts, in the clock's milliseconds; null where none is planned. */
  retryAt = null;

  constructor(options) {
    this.#options = {
      headers: () => ({}),
      onState: () => {},
      onConnected: () => {},
      onError: () => "retry",
      heartBeat: [10_000, 10_000],
      backoff: { base: 500, cap: 15_000 },
      clock: pageClock,
      random: Math.random,
      WebSocket: globalThis.WebSocket,
      ...options,
    };
    this.#clock = this.#options.clock;
  }

  get connected() {
    return this.state === "connected";
  }

  /** Connects, and keeps connected until `stop`. */
  start() {
    if (this.state === "idle" || this.state === "stopped") {
      this.#attempt = 0;
      this.#open();
    }
  }

  /** Does not wait any longer for the next attempt. */
  retryNow() {
    if (this.state === "waiting") this.#open();
  }

  /** Says DISCONNECT where there is a connection, and does not come back until `start`. */
  stop() {
    if (this.state === "stopped") return;
    if (this.connected) this.#transmit(encodeFrame("DISCONNECT"));
    this.#drop("stopped", new ConnectionLost("the client was stopped"));
  }

  /**
   * Sends a message. `body` is a string or a Uint8Array. With `receipt: true` the answer is a promise of the RECEIPT
   * frame, which fails with ConnectionLost or StompError.
   */
  send(destination, { headers = {}, body = "", receipt = false } = {}) {
    const all = { destination, ...headers };
    if (typeof body === "string") all["content-type"] ??= "text/plain;charset=utf-8";
    return this.#command("SEND", all, body, receipt);
  }

  /**
   * Subscribes; `onMessage(frame)` gets each MESSAGE. `ready` is a promise of the RECEIPT: from then on nothing is missed.
   */
  subscribe(destination, onMessage, headers = {}) {
    const id = headers.id ?? this.#nextId("sub");
    this.#subscriptions.set(id, onMessage);
    const ready = this.#command("SUBSCRIBE", { id, destination, ...headers }, undefined, true);
    // Whoever does not care gets no complaint about an unhandled rejection.
    ready.catch(() => {});
    return {
      id,
      ready,
      unsubscribe: () => {
        if (this.#subscriptions.delete(id) && this.connected) this.#command("UNSUBSCRIBE", { id });
      },
    };
  }

  /** Acknowledges a MESSAGE. Without an `ack` header there is nothing to acknowledge. */
  ack(message) {
    this.#answer("ACK", message);
  }

  /** Refuses a MESSAGE. */
  nack(message) {
    this.#answer("NACK", message);
  }

  #answer(command, message) {
    const id = message.header("ack");
    if (id !== undefined && this.connected) this.#command(command, { id });
  }

  #command(command, headers, body, wantsReceipt = false) {
    if (!this.connected) {
      const lost = new ConnectionLost("there is no connection");
      if (wantsReceipt) return Promise.reject(lost);
      throw lost;
    }
    if (!wantsReceipt) {
      this.#transmit(encodeFrame(command, headers, body));
      return undefined;
    }
    const receipt = this.#nextId("r");
    const frame = encodeFrame(command, { ...headers, receipt }, body);
    return new Promise((resolve, reject) => {
      this.#receipts.set(receipt, { resolve, reject });
      this.#transmit(frame);
    });
  }

  #nextId(prefix) {
    this.#lastId += 1;
    return `${prefix}-${this.#lastId}`;
  }

  #open() {
    this.#timer("retry");
    this.retryAt = null;
    this.#parser = new FrameParser();
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#options.url, ["v12.stomp"]);
    } catch (error) {
      this.#lost(new ConnectionLost(error.message));
      return;
    }
    socket.binaryType = "arraybuffer";
    // A socket that was given up may still speak: only the present one is listened to.
    const mine = (handle) => (event) => {
      if (this.#socket === socket) handle(event);
    };
    socket.onopen = mine(() => {
      const [send, expect] = this.#options.heartBeat;
      this.#transmit(
        encodeFrame("CONNECT", {
          "accept-version": "1.2",
          host: new URL(this.#options.url).hostname,
          "heart-beat": `${send},${expect}`,
          ...this.#options.headers(),
        }),
      );
    });
    socket.onmessage = mine(({ data }) => this.#received(data));
    socket.onclose = mine(({ code }) => {
      this.#lost(new ConnectionLost(`the connection was closed (${code})`));
    });
    this.#socket = socket;
    this.#timer("handshake", HANDSHAKE_MS, () => {
      this.#lost(new ConnectionLost("the server did not answer in time"));
    });
    this.#become("connecting");
  }

  #transmit(data) {
    this.#lastSent = this.#clock.now();
    this.#socket.send(data);
  }

  #received(data) {
    this.#lastReceived = this.#clock.now();
    let frames;
    try {
      frames = this.#parser.feed(data);
    } catch (error) {
      this.#lost(error);
      return;
    }
    const socket = this.#socket;
    for (const frame of frames) {
      if (this.#socket !== socket) return;
      this.#handle(frame);
    }
  }

  #handle(frame) {
    switch (frame.command) {
      case "CONNECTED":
        this.#timer("handshake");
        this.#connectedAt = this.#clock.now();
        this.#startHeartBeats(frame.header("heart-beat") ?? "0,0");
        this.#become("connected");
        this.#options.onConnected(frame);
        break;
      case "MESSAGE":
        this.#subscriptions.get(frame.header("subscription"))?.(frame);
        break;
      case "RECEIPT": {
        const id = frame.header("receipt-id");
        this.#receipts.get(id)?.resolve(frame);
        this.#receipts.delete(id);
        break;
      }
      case "ERROR":
        this.#failed(new StompError(frame));
        break;
      default:
        this.#lost(new ProtocolError(`the server sent ${frame.command}`));
    }
  }

  #failed(error) {
    const waiting = this.#receipts.get(error.receiptId);
    this.#receipts.delete(error.receiptId);
    waiting?.reject(error);
    if (this.#options.onError(error) === "stop") this.#drop("stopped", new ConnectionLost(error.message));
    else this.#lost(new ConnectionLost(error.message));
  }

  #startHeartBeats(header) {
    const [theirSend, theirExpect] = header.split(",").map(Number);
    const [mySend, myExpect] = this.#options.heartBeat;
    const outgoing = mySend && theirExpect ? Math.max(mySend, theirExpect) : 0;
    const incoming = myExpect && theirSend ? Math.max(myExpect, theirSend) : 0;
    // A little early, so that the way through the network does not make it late.
    if (outgoing) this.#beat(outgoing * 0.8);
    if (incoming) this.#watch(incoming * TOLERANCE, incoming);
  }

  #beat(interval) {
    const due = this.#lastSent + interval - this.#clock.now();
    this.#timer("beat", Math.max(due, 0), () => {
      if (this.#clock.now() - this.#lastSent >= interval) this.#transmit("\n");
      this.#beat(interval);
    });
  }

  #watch(patience, grace) {
    const deadline = this.#lastReceived + patience;
    this.#timer("watch", Math.max(deadline - this.#clock.now(), 0), () => {
      const now = this.#clock.now();
      if (now - this.#lastReceived < patience) {
        this.#watch(patience, grace);
      } else if (now - deadline > grace) {
        // The timer itself is late: the machine slept, or the tab was frozen. What came meanwhile has not been read yet.
        this.#lastReceived = now - patience + grace;
        this.#transmit("\n");
        this.#watch(patience, grace);
      } else {
        this.#lost(new ConnectionLost("the server has gone silent"));
      }
    });
  }

  #lost(reason) {
    const wasStable = this.connected && this.#clock.now() - this.#connectedAt >= STABLE_MS;
    if (wasStable) this.#attempt = 0;
    const { base, cap } = this.#options.backoff;
    const full = Math.min(cap, base * 2 ** this.#attempt);
    const delay = full * (0.5 + this.#options.random() / 2);
    this.#attempt += 1;
    this.retryAt = this.#clock.now() + delay;
    this.#drop("waiting", reason);
    if (this.state === "waiting") this.#timer("retry", delay, () => this.#open());
  }

  #drop(state, reason) {
    for (const name of [...this.#timers.keys()]) this.#timer(name);
    const socket = this.#socket;
    this.#socket = null;
    // Not waiting for the closing handshake: on a dead network it takes minutes.
    socket?.close();
    const waiting = [...this.#receipts.values()];
    this.#receipts.clear();
    this.#subscriptions.clear();
    if (state !== "waiting") this.retryAt = null;
    this.#become(state);
    for (const { reject } of waiting) reject(reason);
  }

  #become(state) {
    this.state = state;
    this.#options.onState(state);
  }

  // Sets the timer of this name anew, or ends it where no callback is given.
  #timer(name, ms, callback) {
    const old = this.#timers.get(name);
    if (old !== undefined) this.#clock.clearTimeout(old);
    this.#timers.delete(name);
    if (!callback) return;
    this.#timers.set(
      name,
      this.#clock.setTimeout(() => {
        this.#timers.delete(name);
        callback();
      }, ms),
    );
  }
}
