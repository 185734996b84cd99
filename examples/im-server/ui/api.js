// The server's REST calls.

/** The server refused a call. `status` is the HTTP status, the message is for the person before the screen. */
export class ApiError extends Error {
  name = "ApiError";

  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The server could not be reached. */
export class Unreachable extends Error {
  name = "Unreachable";
}

const TIMEOUT_MS = 15_000;
const FILE_TIMEOUT_MS = 120_000;
const segment = encodeURIComponent;

/** The calls of `/api/v1`; all but `signUp` and `signIn` need `token`. */
export class Api {
  constructor({ base = "/api/v1", fetch = globalThis.fetch.bind(globalThis) } = {}) {
    this.base = base;
    this.fetch = fetch;
    this.token = null;
    /** Called when the server no longer takes the token. */
    this.onRejected = () => {};
  }

  signUp(name, password) {
    return this.#call("POST", "/users", { name, password });
  }

  signIn(name, password) {
    return this.#call("POST", "/tokens", { name, password });
  }

  async findUsers(text) {
    return (await this.#call("GET", `/users?q=${segment(text)}`)).users;
  }

  /** All of them, page by page, the latest first. */
  async conversations() {
    const all = [];
    const query = new URLSearchParams({ limit: 200 });
    for (;;) {
      const { conversations, next } = await this.#call("GET", `/conversations?${query}`);
      all.push(...conversations);
      if (!next) return all;
      query.set("cursor", next);
    }
  }

  /** One page of a conversation's history, in the order of `seq`. */
  history(conversation, { before, after, limit = 50 } = {}) {
    const query = new URLSearchParams({ limit });
    if (before !== undefined) query.set("before", before);
    if (after !== undefined) query.set("after", after);
    return this.#call("GET", `/conversations/${segment(conversation)}/messages?${query}`);
  }

  createGroup(name, members) {
    return this.#call("POST", "/groups", { name, members });
  }

  /** What is not written but done to a message: `kind` is `edit`, `recall` or `reaction`. */
  change({ to, kind, target, body, key }) {
    return this.#call("POST", "/messages", { to, kind, in_reply_to: target, body, idempotency_key: key });
  }

  changeGroup(name, settings) {
    return this.#call("PATCH", `/groups/${segment(name)}`, settings);
  }

  changeMember(group, user, change) {
    return this.#call("PATCH", `/groups/${segment(group)}/members/${segment(user)}`, change);
  }

  handOver(group, user) {
    return this.#call("PUT", `/groups/${segment(group)}/owner`, { user });
  }

  async blocked() {
    return (await this.#call("GET", "/blocks")).users;
  }

  block(user) {
    return this.#call("PUT", `/blocks/${segment(user)}`);
  }

  unblock(user) {
    return this.#call("DELETE", `/blocks/${segment(user)}`);
  }

  async devices() {
    return (await this.#call("GET", "/devices")).devices;
  }

  nameDevice(name, label) {
    return this.#call("PATCH", `/devices/${segment(name)}`, { label });
  }

  removeDevice(name) {
    return this.#call("DELETE", `/devices/${segment(name)}`);
  }

  /** Keeps a file for the members of a conversation: gives its id. */
  async upload(conversation, file) {
    const path = `/conversations/${segment(conversation)}/attachments?${new URLSearchParams({ name: file.name })}`;
    return (await this.#call("POST", path, file)).id;
  }

  /** The content of an attachment, as a Blob. */
  download(id) {
    return this.#call("GET", `/attachments/${segment(id)}`, undefined, (response) => response.blob());
  }

  async search(query, limit = 20) {
    return (await this.#call("GET", `/search?${new URLSearchParams({ q: query, limit })}`)).messages;
  }

  group(name) {
    return this.#call("GET", `/groups/${segment(name)}`);
  }

  addMember(group, user) {
    return this.#call("PUT", `/groups/${segment(group)}/members/${segment(user)}`);
  }

  removeMember(group, user) {
    return this.#call("DELETE", `/groups/${segment(group)}/members/${segment(user)}`);
  }

  /** A page of the sessions of this node; this and what follows is for those who run it. */
  sessions({ cursor, user, slow, limit = 50 } = {}) {
    const query = new URLSearchParams({ limit });
    if (cursor) query.set("cursor", cursor);
    if (user) query.set("user", user);
    if (slow) query.set("slow", "true");
    return this.#call("GET", `/admin/sessions?${query}`);
  }

  endSession(id) {
    return this.#call("DELETE", `/admin/sessions/${segment(id)}`);
  }

  endSessions(user) {
    return this.#call("DELETE", `/admin/users/${segment(user)}/sessions`);
  }

  /** A page of what is listened to on this node. */
  destinations({ cursor, limit = 50 } = {}) {
    const query = new URLSearchParams({ limit });
    if (cursor) query.set("cursor", cursor);
    return this.#call("GET", `/admin/destinations?${query}`);
  }

  drain() {
    return this.#call("POST", "/admin/drain");
  }

  // A body that is a Blob goes as it is, all else as JSON. `read` takes the content of an answer that is no JSON.
  async #call(method, path, body, read = null) {
    const headers = { accept: "application/json" };
    const { token } = this;
    if (token) headers.authorization = `Bearer ${token}`;
    const isFile = body instanceof Blob;
    if (isFile) headers["content-type"] = body.type || "application/octet-stream";
    else if (body !== undefined) headers["content-type"] = "application/json";
    let response;
    let text;
    try {
      response = await this.fetch(this.base + path, {
        method,
        headers,
        body: body === undefined || isFile ? body : JSON.stringify(body),
        cache: "no-store",
        signal: AbortSignal.timeout(isFile || read ? FILE_TIMEOUT_MS : TIMEOUT_MS),
      });
      if (read && response.ok) return await read(response);
      text = await response.text();
    } catch {
      throw new Unreachable("The server cannot be reached.");
    }
    const answer = parse(text);
    if (response.ok) return answer ?? {};
    if (response.status === 401 && token && token === this.token) this.onRejected();
    throw new ApiError(response.status, answer?.detail ?? answer?.title ?? `The server answered ${response.status}.`);
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
