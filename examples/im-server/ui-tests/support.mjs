// A clock that only moves when told to, a WebSocket whose other end is the test, and a storage in memory.

import { webcrypto } from "node:crypto";
import { encodeFrame, FrameParser } from "../ui/frame.js";

globalThis.crypto ??= webcrypto;

export class FakeClock {
  time = 1000;
  #timers = new Map();
  #last = 0;

  now = () => this.time;

  setTimeout = (callback, ms) => {
    this.#last += 1;
    this.#timers.set(this.#last, { at: this.time + ms, callback });
    return this.#last;
  };

  clearTimeout = (id) => this.#timers.delete(id);

  /** Lets time pass; timers run in their order. */
  advance(ms) {
    const end = this.time + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      const [id, { at, callback }] = due;
      this.#timers.delete(id);
      this.time = Math.max(this.time, at);
      callback();
    }
    this.time = end;
  }

  /** The machine sleeps: time passes and no timer runs until it is awake. */
  sleep(ms) {
    this.time += ms;
  }
}

/** The sockets that a client opened, the latest last. `sent` holds the frames, and "\n" for heart-beats. */
export function fakeSockets() {
  const sockets = [];
  class FakeSocket {
    sent = [];
    closed = false;
    #parser = new FrameParser();

    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      sockets.push(this);
    }

    send(data) {
      if (data === "\n") this.sent.push("\n");
      else this.sent.push(...this.#parser.feed(data));
    }

    close() {
      this.closed = true;
    }

    // --- the server's side ---

    open() {
      this.onopen({});
    }

    say(command, headers = {}, body = undefined) {
      this.onmessage({ data: encodeFrame(command, headers, body) });
    }

    raw(data) {
      this.onmessage({ data });
    }

    lose(code = 1006) {
      this.onclose({ code });
    }

    /** Opens and accepts. */
    accept(heartBeat = "0,0") {
      this.open();
      this.say("CONNECTED", { version: "1.2", "heart-beat": heartBeat });
    }

    frames(command) {
      return this.sent.filter((frame) => frame.command === command);
    }

    last(command) {
      return this.frames(command).at(-1);
    }

    receipt(frame, headers = {}) {
      this.say("RECEIPT", { "receipt-id": frame.header("receipt"), ...headers });
    }
  }
  return { sockets, FakeSocket, latest: () => sockets.at(-1) };
}

/** As localStorage. */
export class FakeStorage {
  #items = new Map();
  getItem = (name) => this.#items.get(name) ?? null;
  setItem = (name, value) => void this.#items.set(name, value);
  removeItem = (name) => void this.#items.delete(name);
}

/** Lets everything run that waits for nothing but its turn. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));
