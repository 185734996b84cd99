// The right side: a person, or a group with its members.

import { avatar } from "./avatar.js";
import { h, iconButton, reconcile, setText } from "./dom.js";
import { lastSeen } from "./format.js";
import { sheet } from "./view-menu.js";

/**
 * Calls `onClose()`, `onPerson(name)`, `onAdd(conversation)` to choose new members, and, which are promises, `onRemove(conversation, user)`,
 * `onMember(conversation, user, change)`, `onGroup(conversation)` and `onBlock(user)`.
 */
export class DetailsView {
  #model;
  #options;
  #conversation = null;
  #body;
  #members;
  #heading;
  #fault;
  #confirming = null;

  constructor(model, options) {
    this.#model = model;
    this.#options = options;
    this.#heading = h("h2", { tabindex: "-1" });
    this.#body = h("div", { class: "details-body" });
    this.#members = h("ul", { class: "members", role: "list", "data-testid": "members", "aria-label": "Members" });
    this.#fault = h("p", { class: "fault", role: "alert" });
    this.element = h(
      "section",
      { class: "details", "aria-label": "Details", hidden: true, "data-testid": "details" },
      h("header", { class: "details-head" }, this.#heading, iconButton("close", "Close details", { onclick: () => options.onClose() })),
      this.#body,
    );
  }

  get isOpen() {
    return !this.element.hidden;
  }

  show(conversation) {
    this.#conversation = conversation;
    this.#confirming = null;
    this.element.hidden = !conversation;
    if (!conversation) return;
    setText(this.#fault, "");
    const isGroup = conversation.kind === "group";
    setText(this.#heading, HEADINGS[conversation.kind]);
    this.#body.replaceChildren(
      h("div", { class: "details-card" }, h("span", { class: "details-avatar" }), h("p", { class: "details-name" }, conversation.title), h("p", { class: "details-state" })),
      isGroup ? h("section", { class: "details-group" }) : this.#personSection(conversation.peer),
    );
    if (isGroup) {
      this.#body.querySelector(".details-group").append(
        h("div", { class: "members-head" }, h("h3", {}), h("span", { class: "members-action" })),
        this.#fault,
        this.#members,
        h("div", { class: "details-leave" }),
      );
    }
    this.update();
    this.#heading.focus({ preventScroll: true });
  }

  #personSection(user) {
    if (user === null || user === this.#model.me) return "";
    const block = () => this.#attempt(async () => {
      await this.#options.onBlock(user);
      setText(this.#fault, `${user} is blocked. Settings has the list of the people you have blocked.`);
    });
    return h(
      "section",
      { class: "details-person" },
      this.#fault,
      h("button", { type: "button", class: "button wide danger", "data-testid": "block", onclick: block }, `Block ${user}`),
    );
  }

  update(now = Date.now()) {
    const conversation = this.#conversation;
    if (!conversation) return;
    const { title, peer } = conversation;
    const presence = peer === null ? null : this.#model.presenceOf(peer);
    reconcile(this.#body.querySelector(".details-avatar"), [
      { key: title, signature: String(presence), render: () => avatar(title, { group: peer === null, presence, size: "large" }) },
    ]);
    setText(this.#body.querySelector(".details-name"), title);
    setText(this.#body.querySelector(".details-state"), peer === null ? groupState(conversation) : this.#personState(peer, now));
    if (conversation.kind === "group") this.#updateGroup(conversation, now);
  }

  #updateGroup(conversation, now) {
    const count = conversation.members.size;
    setText(this.#body.querySelector(".members-head h3"), `${count} ${count === 1 ? "member" : "members"}`);
    const canChange = conversation.isOwner && !conversation.left;
    reconcile(this.#body.querySelector(".members-action"), canChange ? [this.#addRow(conversation), this.#groupRow(conversation)] : []);
    const names = [...conversation.members.keys()].sort(
      (a, b) => Number(this.#model.isOnline(b)) - Number(this.#model.isOnline(a)) || a.localeCompare(b),
    );
    reconcile(this.#members, names.map((user) => this.#memberRow(conversation, user, canChange, now)));
    reconcile(this.#body.querySelector(".details-leave"), conversation.left ? [] : [this.#leaveRow(conversation)]);
  }

  #addRow(conversation) {
    return {
      key: `add ${conversation.id}`,
      signature: "",
      render: () =>
        h(
          "button",
          { type: "button", class: "button small", "data-testid": "add-member", onclick: () => this.#options.onAdd(conversation) },
          "Add people",
        ),
    };
  }

  #groupRow(conversation) {
    return {
      key: `group ${conversation.id}`,
      signature: "",
      render: () =>
        h(
          "button",
          { type: "button", class: "button small", "data-testid": "group-settings", onclick: () => this.#attempt(() => this.#options.onGroup(conversation)) },
          "Settings",
        ),
    };
  }

  // What may be done to a member: roles are the owner's business, silence is also the admins'.
  #manage(conversation, user) {
    const mine = conversation.members.get(this.#model.me)?.role;
    const { role } = conversation.members.get(user);
    const change = (label, testId, what) =>
      h(
        "button",
        { type: "button", class: "button wide", "data-testid": testId, onclick: () => { dialog.close(); this.#attempt(() => this.#options.onMember(conversation, user, what)); } },
        label,
      );
    const dialog = sheet(
      user,
      "member-menu",
      h(
        "div",
        { class: "sheet-actions" },
        mine === "owner" && role === "member" && change("Make admin", "make-admin", { role: "admin" }),
        mine === "owner" && role === "admin" && change("Make plain member", "make-member", { role: "member" }),
        mine === "owner" && role !== "owner" && change("Hand the group over", "hand-over", { role: "owner" }),
        change("Mute for an hour", "mute", { muted_until: Date.now() + 3_600_000 }),
        change("Let speak again", "unmute", { muted_until: 0 }),
      ),
    );
  }

  #memberRow(conversation, user, canChange, now) {
    const { me } = this.#model;
    const { role } = conversation.members.get(user);
    const presence = this.#model.presenceOf(user);
    const state = user === me ? "you" : this.#personState(user, now);
    const removable = canChange && user !== me;
    const confirming = this.#confirming === user;
    return {
      key: user,
      signature: JSON.stringify([presence, state, role, removable, confirming]),
      render: () =>
        h(
          "li",
          { class: "member", "data-testid": "member", "data-user": user, "data-online": String(presence !== "offline") },
          avatar(user, { presence, size: "small" }),
          h(
            "div",
            { class: "member-text" },
            user === me
              ? h("p", { class: "member-name" }, user)
              : h("button", { type: "button", class: "member-name link-plain", "data-focus": "name", onclick: () => this.#options.onPerson(user) }, user),
            h("p", { class: "member-state" }, state),
          ),
          role !== "member" && h("span", { class: "role", "data-testid": "role" }, role),
          removable &&
            !confirming &&
            iconButton("more", `Manage ${user}`, { "data-focus": "manage", "data-testid": "manage-member", onclick: () => this.#manage(conversation, user) }),
          removable &&
            (confirming
              ? h(
                  "button",
                  { type: "button", class: "button small danger", "data-focus": "remove", onclick: () => this.#remove(conversation, user) },
                  "Remove",
                )
              : iconButton("close", `Remove ${user}`, { "data-focus": "remove", "data-testid": "remove-member", onclick: () => this.#ask(user) })),
        ),
    };
  }

  #leaveRow(conversation) {
    const { me } = this.#model;
    const confirming = this.#confirming === me;
    return {
      key: "leave",
      signature: String(confirming),
      render: () =>
        h(
          "button",
          {
            type: "button",
            class: "button wide danger",
            "data-focus": "leave",
            "data-testid": "leave",
            onclick: () => (confirming ? this.#remove(conversation, me) : this.#ask(me)),
          },
          confirming ? "Really leave?" : "Leave group",
        ),
    };
  }

  #ask(user) {
    this.#confirming = user;
    this.update();
  }

  async #remove(conversation, user) {
    this.#confirming = null;
    await this.#attempt(() => this.#options.onRemove(conversation, user));
    this.update();
  }

  async #attempt(work) {
    setText(this.#fault, "");
    try {
      await work();
    } catch (error) {
      setText(this.#fault, error.message);
    }
  }

  #personState(user, now) {
    if (!this.#model.connected) return "";
    if (this.#model.isOnline(user)) return this.#model.presenceOf(user);
    const seen = this.#model.presence.get(user)?.lastSeen;
    return seen ? lastSeen(seen, now) : "offline";
  }
}

const HEADINGS = { group: "Group", direct: "Person", broadcast: "Announcements" };

const groupState = ({ kind, left }) =>
  kind === "broadcast" ? "From the administrators" : left ? "You are no longer a member" : "Group";
