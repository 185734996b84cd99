// Words, times and colours for the screen.

const encoder = new TextEncoder();

/** The order of the server: octet by octet of UTF-8. */
export function compareOctets(a, b) {
  const [x, y] = [encoder.encode(a), encoder.encode(b)];
  for (let i = 0; i < Math.min(x.length, y.length); i += 1) {
    if (x[i] !== y[i]) return x[i] - y[i];
  }
  return x.length - y.length;
}

/** The id of the conversation of two people. */
export function directId(a, b) {
  return `direct:${[a, b].sort(compareOctets).join(":")}`;
}

/** Takes `direct:a:b`, `group:x` or `broadcast:x` apart, as `me` sees it; null where it is none of them. */
export function parseConversationId(id, me) {
  const [kind, ...names] = id.split(":");
  if (kind === "group" && names.length === 1 && names[0]) {
    return { kind, title: names[0], destination: `/group/${names[0]}` };
  }
  if (kind === "broadcast" && names.length === 1 && names[0]) {
    const title = names[0] === "all" ? "Announcements" : `Announcements to ${names[0]}`;
    return { kind, title, destination: `/broadcast/${names[0]}` };
  }
  if (kind === "direct" && names.length === 2 && names.includes(me)) {
    const peer = names[0] === me ? names[1] : names[0];
    return { kind, title: peer, destination: `/user/${peer}` };
  }
  return null;
}

const NAME = /^[\p{L}\p{N}._@+-]{1,64}$/u;

/** What is wrong with a user's or group's name, or null. */
export function nameFault(name) {
  if (name === "") return "Choose a name.";
  if (!NAME.test(name)) return "Use up to 64 letters and digits, and . _ - @ + (no spaces).";
  if (name === "queue" || name === "topic") return "This name is reserved.";
  return null;
}

/** One or two letters that stand for a name. */
export function initials(name) {
  const words = name.split(/[._\-@+]+/u).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[1]].map(firstLetter) : [firstLetter(words[0] ?? name)];
  return letters.join("").toLocaleUpperCase();
}

const firstLetter = (word) => [...word][0] ?? "?";

/** How many avatar colours the style sheet has. */
const HUES = 10;

/** The number of the avatar colour of a name: always the same one. */
export function hue(name) {
  let hash = 2166136261;
  for (const octet of encoder.encode(name)) hash = Math.imul(hash ^ octet, 16777619) >>> 0;
  return ((hash ^ (hash >>> 15)) >>> 0) % HUES;
}

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const shortDayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const yearFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "short" });

const startOfDay = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());

/** How many midnights lie between two moments. */
export function daysBetween(earlier, later) {
  return Math.round((startOfDay(new Date(later)) - startOfDay(new Date(earlier))) / 86_400_000);
}

export const clockTime = (ms) => timeFormat.format(ms);
export const fullTime = (ms) => fullFormat.format(ms);

/** For a separator between days. */
export function dayName(ms, now = Date.now()) {
  const days = daysBetween(ms, now);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days > 1 && days < 7) return weekdayFormat.format(ms);
  return new Date(ms).getFullYear() === new Date(now).getFullYear() ? dayFormat.format(ms) : yearFormat.format(ms);
}

/** For the conversation list: the shortest that still tells. */
export function listTime(ms, now = Date.now()) {
  const days = daysBetween(ms, now);
  if (days <= 0) return clockTime(ms);
  if (days === 1) return "Yesterday";
  if (days < 7) return weekdayFormat.format(ms);
  return shortDayFormat.format(ms);
}

/** "last seen ..." of somebody who is away. */
export function lastSeen(ms, now = Date.now()) {
  const minutes = Math.floor((now - ms) / 60_000);
  if (minutes < 1) return "last seen just now";
  if (minutes < 60) return `last seen ${minutes} min ago`;
  const days = daysBetween(ms, now);
  if (days === 0) return `last seen today at ${clockTime(ms)}`;
  if (days === 1) return `last seen yesterday at ${clockTime(ms)}`;
  return `last seen ${shortDayFormat.format(ms)}`;
}

/** "anna", "anna and ben", "anna, ben and 2 others". */
export function nameList(names) {
  if (names.length <= 1) return names[0] ?? "";
  if (names.length === 2) return `${names[0]} and ${names[1]}`;
  if (names.length === 3) return `${names[0]}, ${names[1]} and ${names[2]}`;
  return `${names[0]}, ${names[1]} and ${names.length - 2} others`;
}

/** What a member message says, as `me` reads it. */
export function memberLine(message, me) {
  const actor = message.from === me ? "You" : message.from;
  let change;
  try {
    change = JSON.parse(message.body);
  } catch {
    return "The members changed";
  }
  const user = change?.user === me ? "you" : change?.user;
  switch (change?.action) {
    case "created":
      return `${actor} created the group`;
    case "added":
      return `${actor} added ${user}`;
    case "joined":
      return `${actor} joined the group`;
    case "role":
      return `${actor} made ${user} ${change.role === "admin" || change.role === "owner" ? "an" : "a plain"} ${change.role}`;
    case "muted":
      return `${actor} muted ${user}`;
    case "unmuted":
      return `${actor} let ${user} speak again`;
    case "changed":
      return `${actor} changed the group`;
    case "removed":
      return `${actor} removed ${user}`;
    case "left":
      return `${change.user === me ? "You" : change.user} left the group`;
    default:
      return "The members changed";
  }
}

const LINK = /\bhttps?:\/\/[^\s<>"']+/giu;

/** Cuts a text into `{text}` and `{text, href}`: only whole http and https addresses become links. */
export function splitLinks(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(LINK)) {
    const address = trimAddress(found);
    const href = safeHref(address);
    if (!href) continue;
    if (index > end) parts.push({ text: text.slice(end, index) });
    parts.push({ text: address, href });
    end = index + address.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

// The full stop that ends the sentence is no part of the address, nor a bracket that was opened before it.
function trimAddress(address) {
  let trimmed = address.replace(/[.,;:!?]+$/u, "");
  while (trimmed.endsWith(")") && trimmed.split("(").length < trimmed.split(")").length) trimmed = trimmed.slice(0, -1);
  return trimmed;
}

function safeHref(address) {
  try {
    const url = new URL(address);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

const MAX_SEARCH_WORDS = 16;

/** What the server is asked for when a person types this into the search; empty where there is nothing to look for. */
export function searchQuery(text) {
  const words = (text.match(/[\p{L}\p{M}\p{N}]+/gu) ?? []).slice(0, MAX_SEARCH_WORDS);
  const last = words.at(-1);
  if (!last || words.join("").length < 2) return "";
  // Of what is written with spaces the last word may have only begun.
  if (/^[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}]{2,}$/u.test(last)) words[words.length - 1] = `${last}*`;
  return words.join(" ");
}
