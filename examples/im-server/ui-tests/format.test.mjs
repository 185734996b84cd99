import assert from "node:assert/strict";
import { test } from "node:test";
import "./support.mjs";
import {
  compareOctets,
  dayName,
  daysBetween,
  directId,
  hue,
  initials,
  lastSeen,
  memberLine,
  searchQuery,
  nameFault,
  nameList,
  parseConversationId,
  splitLinks,
} from "../ui/format.js";

test("the names of a direct conversation are sorted by octet, as the server does", () => {
  assert.equal(directId("bob", "alice"), "direct:alice:bob");
  assert.equal(directId("a", "B"), "direct:B:a");
  // By UTF-16 unit U+1D400 (a surrogate pair) would come before U+FF21.
  assert.ok(compareOctets("\u{FF21}", "\u{1D400}") < 0);
  assert.equal(directId("\u{1D400}", "\u{FF21}"), "direct:\u{FF21}:\u{1D400}");
});

test("a conversation's id tells its kind, title and destination", () => {
  assert.deepEqual(parseConversationId("direct:alice:bob", "bob"), { kind: "direct", title: "alice", destination: "/user/alice" });
  assert.deepEqual(parseConversationId("group:ops", "bob"), { kind: "group", title: "ops", destination: "/group/ops" });
  const everybody = { kind: "broadcast", title: "Announcements", destination: "/broadcast/all" };
  assert.deepEqual(parseConversationId("broadcast:all", "bob"), everybody);
  assert.equal(parseConversationId("direct:alice:bob", "eve"), null);
});

test("names are checked as the server does", () => {
  for (const name of ["alice", "李雷", "d.meyer_x-1@y+z", "é"]) assert.equal(nameFault(name), null, name);
  for (const name of ["", "a b", "a/b", "a:b", "<b>", "queue", "topic", "x".repeat(65)]) assert.ok(nameFault(name), name);
});

test("only whole web addresses become links", () => {
  const links = (text) => splitLinks(text).filter(({ href }) => href).map(({ href }) => href);
  assert.deepEqual(links("see https://example.org/a?b=c."), ["https://example.org/a?b=c"]);
  assert.deepEqual(links("(https://example.org/x_(y))"), ["https://example.org/x_(y)"]);
  assert.deepEqual(links("javascript:alert(1) data:text/html,x file:///etc ftp://x"), []);
  assert.deepEqual(links("http://"), []);
  for (const text of ["", "plain", "a https://x.y/ b http://z!", "<script>https://x.y/\"><img>"]) {
    assert.equal(splitLinks(text).map((part) => part.text).join(""), text);
  }
});

test("member messages read as sentences", () => {
  const line = (from, action, user) => memberLine({ from, body: JSON.stringify({ action, user }) }, "me");
  assert.equal(line("me", "created", "me"), "You created the group");
  assert.equal(line("bob", "added", "me"), "bob added you");
  assert.equal(line("bob", "removed", "carol"), "bob removed carol");
  assert.equal(line("carol", "left", "carol"), "carol left the group");
  assert.equal(memberLine({ from: "bob", body: "?" }, "me"), "The members changed");
  assert.equal(memberLine({ from: "bob", body: "null" }, "me"), "The members changed");
});

test("days are counted by midnights, not by hours", () => {
  const late = new Date(2026, 2, 28, 23, 59).getTime();
  const early = new Date(2026, 2, 29, 0, 1).getTime();
  assert.equal(daysBetween(late, early), 1);
  assert.equal(dayName(late, early), "Yesterday");
  assert.equal(dayName(early, early), "Today");
  assert.match(dayName(new Date(2024, 0, 1).getTime(), early), /2024/);
});

test("last seen becomes vaguer with time", () => {
  const now = new Date(2026, 5, 15, 12, 0).getTime();
  assert.equal(lastSeen(now - 5000, now), "last seen just now");
  assert.equal(lastSeen(now - 5 * 60_000, now), "last seen 5 min ago");
  assert.match(lastSeen(now - 3 * 3_600_000, now), /^last seen today at /);
  assert.match(lastSeen(now - 20 * 3_600_000, now), /^last seen yesterday at /);
});

test("avatars: letters and a stable colour", () => {
  assert.equal(initials("alice"), "A");
  assert.equal(initials("d.meyer"), "DM");
  assert.equal(initials("\u{1D400}x"), "\u{1D400}");
  assert.equal(initials("..."), ".");
  for (const name of ["alice", "bob", "李雷", ""]) {
    assert.equal(hue(name), hue(name));
    assert.ok(hue(name) >= 0 && hue(name) < 10);
  }
});

test("lists of names stay short", () => {
  assert.equal(nameList(["a"]), "a");
  assert.equal(nameList(["a", "b"]), "a and b");
  assert.equal(nameList(["a", "b", "c", "d"]), "a, b and 2 others");
});

test("what is typed becomes words to search for", () => {
  for (const [typed, query] of [
    ["  hello wor", "hello wor*"],
    ['"a" - (b)?', "a b"],
    ["x", ""],
    ["***", ""],
    ["明天", "明天"],
    ["room 42", "room 42"],
  ]) {
    assert.equal(searchQuery(typed), query, typed);
  }
});
