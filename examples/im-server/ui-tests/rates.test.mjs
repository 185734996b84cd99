import assert from "node:assert/strict";
import { test } from "node:test";
import { Rates, rateText } from "../ui/rates.js";

const topic = (taken, consumers) => ({ name: "/topic/t", depth: 0, unacked: 0, consumers, taken });
const queue = (taken, depth, unacked) => ({ name: "/queue/q", depth, unacked, consumers: 1, taken });

test("a rate needs two looks, and a topic goes out to each of its consumers", () => {
  const rates = new Rates();
  assert.equal(rates.read([topic(10, 3)], 1000).size, 0);
  assert.deepEqual(rates.read([topic(30, 3)], 3000).get("/topic/t"), { in: 10, out: 30 });
  // Everybody had left in between.
  assert.equal(rates.read([topic(4, 1)], 4000).size, 0);
  assert.equal(rates.read([topic(4, 1)], 4000).size, 0);
});

test("what waits in a queue came in as well", () => {
  const rates = new Rates();
  rates.read([queue(10, 5, 5)], 0);
  assert.deepEqual(rates.read([queue(20, 25, 5)], 10_000).get("/queue/q"), { in: 3, out: 1 });
  // What waited and is thrown away is no negative rate.
  assert.deepEqual(rates.read([queue(20, 0, 0)], 20_000).get("/queue/q"), { in: 0, out: 0 });
  // A broker that does not count.
  assert.deepEqual(new Rates().read([queue(20, null, null)], 0).size, 0);
});

test("a rate is short to read", () => {
  assert.deepEqual([undefined, 0, 0.25, 9.94, 1234.4].map(rateText), ["–", "0", "0.3", "9.9", "1234"]);
});
