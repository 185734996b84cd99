// Starts the page of those who run a node. The key is kept by this tab alone, for as long as it is open.

import { AdminView } from "./view-admin.js";
import { Api } from "./api.js";
import { keyView } from "./view-key.js";

const KEPT = "im.operate";
const root = document.getElementById("app");
const api = new Api();
let view = null;

function enter(key) {
  kept.set(key);
  api.token = key;
  api.onRejected = () => leave("The key is no longer taken.");
  view = new AdminView({ api, onSignOut: () => leave(""), onRefused: leave });
  root.replaceChildren(view.element);
  view.start();
}

function leave(notice) {
  view?.stop();
  view = null;
  kept.set(null);
  api.token = null;
  api.onRejected = () => {};
  const key = keyView({ api, notice, onEntered: enter });
  root.replaceChildren(key.element);
  key.focus();
}

// Where the browser forbids to keep anything, a reload asks again.
const kept = {
  get() {
    try {
      return sessionStorage.getItem(KEPT);
    } catch {
      return null;
    }
  },
  set(key) {
    try {
      if (key) sessionStorage.setItem(KEPT, key);
      else sessionStorage.removeItem(KEPT);
    } catch {
      // It stays in memory.
    }
  },
};

const key = kept.get();
if (key) enter(key);
else leave("");
