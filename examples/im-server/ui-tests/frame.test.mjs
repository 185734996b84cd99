import assert from "node:assert/strict";
import { test } from "node:test";
import "./support.mjs";
import { encodeFrame, escapeHeader, FrameParser, ProtocolError, unescapeHeader } from "../ui/frame.js";

const octets = (text) => new TextEncoder().encode(text);

test("a frame reads back as it was written, with headers that need escaping", () => {
  const headers = { destination: "/user/a", "x-tricky": "a:b\\c\nd\re" };
  const [frame] = new FrameParser().feed(encodeFrame("SEND", headers, "grüße\0!"));
  assert.equal(frame.command, "SEND");
  assert.equal(frame.header("x-tricky"), headers["x-tricky"]);
  assert.equal(frame.body, "grüße\0!");
});

test("CONNECT and CONNECTED are not escaped, and CONNECT refuses a line break", () => {
  assert.match(encodeFrame("CONNECT", { passcode: "a:b\\c" }), /\npasscode:a:b\\c\n/);
  assert.throws(() => encodeFrame("CONNECT", { login: "a\nlogin:root" }), ProtocolError);
  const [frame] = new FrameParser().feed("CONNECTED\nsession:a\\b:c\n\n\0");
  assert.equal(frame.header("session"), "a\\b:c");
});

test("content-length counts octets, and headers without a value are left out", () => {
  const text = encodeFrame("SEND", { destination: "/q", receipt: undefined, kind: null }, "é");
  assert.equal(text, "SEND\ndestination:/q\ncontent-length:2\n\né\0");
});

test("a binary body stays binary", () => {
  const body = new Uint8Array([0, 255, 10, 0]);
  const data = encodeFrame("SEND", { destination: "/q" }, body);
  assert.ok(data instanceof Uint8Array);
  const [frame] = new FrameParser().feed(data);
  assert.deepEqual([...frame.bytes], [...body]);
});

test("frames come out the same wherever the stream is cut", () => {
  const stream = octets(
    "\n\r\nMESSAGE\r\nseq:1\r\n\r\nab\0\n\n" +
      "MESSAGE\nseq:2\ncontent-length:3\n\nx\0y\0" +
      "RECEIPT\nreceipt-id:r\\c1\n\n\0\r\n",
  );
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const parser = new FrameParser();
    const frames = [...parser.feed(stream.slice(0, cut)), ...parser.feed(stream.slice(cut))];
    assert.deepEqual(
      frames.map(({ command, body }) => [command, body]),
      [["MESSAGE", "ab"], ["MESSAGE", "x\0y"], ["RECEIPT", ""]],
      `cut at ${cut}`,
    );
    assert.equal(frames[2].header("receipt-id"), "r:1");
  }
  const byOctet = new FrameParser();
  assert.equal([...stream].flatMap((octet) => byOctet.feed(new Uint8Array([octet]))).length, 3);
});

test("of a repeated header the first counts", () => {
  const [frame] = new FrameParser().feed("MESSAGE\nfoo:one\nfoo:two\n\n\0");
  assert.equal(frame.header("foo"), "one");
});

test("what breaks the protocol is named", () => {
  assert.throws(() => new FrameParser().feed("MESSAGE\nfoo\n\n\0"), /no colon/);
  assert.throws(() => new FrameParser().feed("MESSAGE\nfoo:\\t\n\n\0"), /unknown escape/);
  assert.throws(() => new FrameParser().feed("MESSAGE\ncontent-length:x\n\n\0"), /not a number/);
  assert.throws(() => new FrameParser().feed("MESSAGE\ncontent-length:1\n\nab\0"), /content-length/);
  assert.throws(() => new FrameParser().feed(new Uint8Array([77, 10, 255, 58, 10, 10, 0])), /UTF-8/);
});

test("a frame beyond the limit is refused before all of it is there", () => {
  assert.throws(() => new FrameParser(64).feed("MESSAGE\ncontent-length:65\n\n"), /larger than 64/);
  assert.throws(() => new FrameParser(64).feed(`MESSAGE\nfoo:${"x".repeat(80)}`), /larger than 64/);
});

test("escaping and unescaping undo each other", () => {
  for (const text of ["", "plain", "\\", ":", "\\c", "a\\\\n:\r\n"]) assert.equal(unescapeHeader(escapeHeader(text)), text);
  assert.throws(() => unescapeHeader("end\\"), ProtocolError);
});
