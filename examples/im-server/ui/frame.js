// STOMP frames: bytes in, frames out, and the other way round. No sockets and no clock.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

const NUL = 0;
const LF = 10;
const CR = 13;

/** The peer broke the protocol; the connection cannot be used any further. */
export class ProtocolError extends Error {
  name = "ProtocolError";
}

/** One decoded frame. `bytes` is the body as octets, `body` the same as text. */
export class Frame {
  constructor(command, headers, bytes) {
    this.command = command;
    this.headers = headers;
    this.bytes = bytes;
  }

  /** The value of a header, or undefined. Of a repeated header the first counts. */
  header(name) {
    return this.headers.get(name);
  }

  get body() {
    return decoder.decode(this.bytes);
  }
}

const ESCAPES = { "\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c" };
const UNESCAPES = { "\\": "\\", r: "\r", n: "\n", c: ":" };

/** Escapes a header's name or value as STOMP 1.2 demands. */
export function escapeHeader(text) {
  return text.replace(/[\\\r\n:]/g, (c) => ESCAPES[c]);
}

/** Undoes `escapeHeader`; an unknown escape is a protocol error, as the specification demands. */
export function unescapeHeader(text) {
  if (!text.includes("\\")) return text;
  return text.replace(/\\([\s\S]?)/g, (sequence, c) => {
    const plain = UNESCAPES[c];
    if (plain === undefined) throw new ProtocolError(`unknown escape ${sequence} in a header`);
    return plain;
  });
}

// CONNECT and CONNECTED stay unescaped so that STOMP 1.0 peers can read them.
const isPlain = (command) => command === "CONNECT" || command === "CONNECTED";

/**
 * Encodes one frame: a string where the body is text (or absent), a Uint8Array where the body is one.
 * Headers whose value is undefined or null are left out.
 */
export function encodeFrame(command, headers = {}, body = undefined) {
  let head = `${command}\n`;
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || value === null) continue;
    const text = String(value);
    if (isPlain(command)) {
      if (/[\r\n]/.test(text)) throw new ProtocolError(`header ${name} cannot hold a line break`);
      head += `${name}:${text}\n`;
    } else {
      head += `${escapeHeader(name)}:${escapeHeader(text)}\n`;
    }
  }
  if (body instanceof Uint8Array) {
    const start = encoder.encode(`${head}content-length:${body.length}\n\n`);
    const frame = new Uint8Array(start.length + body.length + 1);
    frame.set(start);
    frame.set(body, start.length);
    return frame;
  }
  // Without the length a body that holds NUL would be cut there.
  if (body !== undefined) head += `content-length:${encoder.encode(body).length}\n`;
  return `${head}\n${body ?? ""}\0`;
}

/** Cuts a stream of text and binary WebSocket messages into frames, wherever the cuts of the sender fall. */
export class FrameParser {
  #buffer = new Uint8Array(0);
  #head = null;
  #scanned = 0;
  #limit;

  /** `limit`: the most octets that one frame may have. */
  constructor(limit = 32 * 1024 * 1024) {
    this.#limit = limit;
  }

  /** Takes a string, an ArrayBuffer or a Uint8Array; gives the frames that it completes. */
  feed(chunk) {
    const bytes = typeof chunk === "string" ? encoder.encode(chunk) : new Uint8Array(chunk);
    if (this.#buffer.length === 0) {
      this.#buffer = bytes;
    } else {
      const joined = new Uint8Array(this.#buffer.length + bytes.length);
      joined.set(this.#buffer);
      joined.set(bytes, this.#buffer.length);
      this.#buffer = joined;
    }
    const frames = [];
    for (let frame = this.#next(); frame; frame = this.#next()) frames.push(frame);
    if (this.#buffer.length > this.#limit) {
      throw new ProtocolError(`a frame is larger than ${this.#limit} octets`);
    }
    return frames;
  }

  #next() {
    if (!this.#head) {
      this.#skipHeartBeats();
      const end = this.#findHeadEnd();
      if (end === -1) return null;
      this.#head = parseHead(decodeHead(this.#buffer.subarray(0, end)));
      this.#head.start = this.#scanned;
    }
    const { command, headers, length, start } = this.#head;
    let end;
    if (length === null) {
      end = this.#buffer.indexOf(NUL, start);
      if (end === -1) return null;
    } else {
      if (length > this.#limit) throw new ProtocolError(`a frame is larger than ${this.#limit} octets`);
      end = start + length;
      if (this.#buffer.length <= end) return null;
      if (this.#buffer[end] !== NUL) throw new ProtocolError("a body is longer than its content-length");
    }
    const frame = new Frame(command, headers, this.#buffer.slice(start, end));
    this.#buffer = this.#buffer.subarray(end + 1);
    this.#head = null;
    this.#scanned = 0;
    return frame;
  }

  #skipHeartBeats() {
    let at = 0;
    while (at < this.#buffer.length && (this.#buffer[at] === LF || this.#buffer[at] === CR)) at += 1;
    if (at > 0) {
      this.#buffer = this.#buffer.subarray(at);
      this.#scanned = 0;
    }
  }

  // Gives where the last header line ends and leaves the start of the body in #scanned.
  #findHeadEnd() {
    const buffer = this.#buffer;
    let at = this.#scanned;
    for (;;) {
      const lf = buffer.indexOf(LF, at);
      if (lf === -1) {
        this.#scanned = at;
        return -1;
      }
      const next = buffer[lf + 1] === CR ? lf + 2 : lf + 1;
      if (buffer[next] === LF) {
        this.#scanned = next + 1;
        return lf;
      }
      if (next >= buffer.length) {
        // The blank line may still be on its way: look at this line feed again.
        this.#scanned = lf;
        return -1;
      }
      at = lf + 1;
    }
  }
}

function decodeHead(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new ProtocolError("a header is not UTF-8");
  }
}

function parseHead(text) {
  const lines = text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  const command = lines.shift();
  const headers = new Map();
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon === -1) throw new ProtocolError("a header line has no colon");
    const clean = isPlain(command) ? (part) => part : unescapeHeader;
    const name = clean(line.slice(0, colon));
    if (!headers.has(name)) headers.set(name, clean(line.slice(colon + 1)));
  }
  const length = headers.get("content-length");
  if (length !== undefined && !/^\d{1,15}$/.test(length)) {
    throw new ProtocolError("content-length is not a number");
  }
  return { command, headers, length: length === undefined ? null : Number(length) };
}
