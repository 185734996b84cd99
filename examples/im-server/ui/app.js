// Starts the page: signed in or not.

import { Api } from "./api.js";
import { authView } from "./view-auth.js";
import { Messenger } from "./messenger.js";
import { randomKey } from "./outbox.js";
import { workerClock } from "./clock.js";

const storage = openStorage();
const api = new Api();
const clock = workerClock("ticker.js");
const root = document.getElementById("app");
let messenger = null;

// Where the browser forbids to keep anything, it is kept while the page lives.
function openStorage() {
  try {
    window.localStorage.setItem("im.probe", "");
    window.localStorage.removeItem("im.probe");
    return window.localStorage;
  } catch {
    const items = new Map();
    return {
      getItem: (name) => items.get(name) ?? null,
      setItem: (name, value) => void items.set(name, value),
      removeItem: (name) => void items.delete(name),
    };
  }
}

// This browser's own place in each inbox: made once, kept for good.
function deviceName() {
  let name = storage.getItem("im.device");
  if (!name) {
    name = `web-${randomKey().slice(0, 16)}`;
    storage.setItem("im.device", name);
  }
  return name;
}

function keptLogin() {
  try {
    const login = JSON.parse(storage.getItem("im.login"));
    return login?.token && login.user ? login : null;
  } catch {
    return null;
  }
}

function signedIn(login) {
  storage.setItem("im.login", JSON.stringify(login));
  api.token = login.token;
  api.onRejected = () => signedOut("Please sign in again.");
  messenger = new Messenger({ ...login, device: deviceName(), api, clock, storage, onSignedOut: signedOut });
  root.replaceChildren(messenger.element);
  messenger.start();
}

// Unsent messages stay in the outbox for the next time.
function signedOut(reason) {
  const name = keptLogin()?.user ?? "";
  storage.removeItem("im.login");
  api.token = null;
  messenger?.stop();
  messenger = null;
  if (!reason) history.replaceState(null, "", location.pathname);
  showAuth(reason ?? "", reason ? name : "");
}

function showAuth(notice, name) {
  document.title = "Sign in · Messages";
  const view = authView({ api, onSignedIn: signedIn, notice, name });
  root.replaceChildren(view.element);
  view.focus();
}

const login = keptLogin();
if (login && !(login.expires < Date.now())) signedIn(login);
else showAuth(login ? "Please sign in again." : "", login?.user ?? "");
