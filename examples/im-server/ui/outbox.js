// What was written and is not known to be stored yet. It survives a reload, and keeps its order and its keys, so that
// sending it again makes no second message.

/**
 * The entries are `{ key, conversation, destination, body, created, tried, error }`. `tried` is set once an entry has been on its way, `error`
 * where the server refused it.
 */
export class Outbox {
  #storage;
  #slot;

  constructor(storage, user) {
    this.#storage = storage;
    this.#slot = `im.outbox.${user}`;
    this.entries = [];
    this.load();
  }

  /** Takes what is kept in the storage: another tab may have worked on it. */
  load() {
    let kept;
    try {
      kept = JSON.parse(this.#storage.getItem(this.#slot) ?? "[]");
    } catch {
      kept = [];
    }
    this.entries = Array.isArray(kept) ? kept.filter((entry) => entry?.key && entry.conversation) : [];
  }

  add({ conversation, destination, body, created, replyTo = null, attachment = null }) {
    const entry = { key: randomKey(), conversation, destination, body, created, replyTo, attachment, tried: false, error: null };
    this.entries.push(entry);
    this.#save();
    return entry;
  }

  has(key) {
    return this.entries.some((entry) => entry.key === key);
  }

  remove(key) {
    const rest = this.entries.filter((entry) => entry.key !== key);
    if (rest.length === this.entries.length) return false;
    this.entries = rest;
    this.#save();
    return true;
  }

  /** The entry is on its way: the server may have it although no receipt comes. */
  tried(key) {
    if (!this.entries.find((entry) => entry.key === key)?.tried) this.#change(key, { tried: true });
  }

  /** Marks an entry as refused; it stays, for the person to decide. */
  fail(key, error) {
    this.#change(key, { error });
  }

  /** Clears the mark and puts the entry at the end: what was written later may have gone before it. */
  retry(key) {
    const entry = this.entries.find((one) => one.key === key);
    if (!entry) return;
    this.entries = [...this.entries.filter((one) => one !== entry), { ...entry, created: Date.now(), error: null }];
    this.#save();
  }

  of(conversation) {
    return this.entries.filter((entry) => entry.conversation === conversation);
  }

  #change(key, change) {
    this.entries = this.entries.map((entry) => (entry.key === key ? { ...entry, ...change } : entry));
    this.#save();
  }

  #save() {
    try {
      this.#storage.setItem(this.#slot, JSON.stringify(this.entries));
    } catch {
      // A full or forbidden storage: the messages still go out while the page lives.
    }
  }
}

/** 128 random bits as text. `crypto.randomUUID` would do the same, but is missing where a page comes over plain HTTP from another machine. */
export function randomKey() {
  const octets = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(octets, (octet) => octet.toString(16).padStart(2, "0")).join("");
}
