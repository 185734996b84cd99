// Sign in and sign up.

import { h, icon, setText } from "./dom.js";
import { nameFault } from "./format.js";

const WORDS = {
  in: { title: "Welcome", lead: "Sign in, or sign up if you are new here.", submit: "Sign in", busy: "Signing in…" },
  up: { title: "Create your account", lead: "A name and a password, nothing else.", submit: "Create account", busy: "Creating…" },
};

/** Calls `onSignedIn({ token, user, expires })`. `notice` says why one has to sign in again. */
export function authView({ api, onSignedIn, notice = "", name = "" }) {
  let mode = "in";
  let busy = false;

  const title = h("h1", { id: "auth-title" });
  const lead = h("p", { class: "auth-lead" });
  const fault = h("p", { class: "fault", role: "alert", "data-testid": "auth-error" });
  const nameField = h("input", {
    id: "auth-name",
    name: "username",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
    required: true,
    "aria-describedby": "auth-hint",
    "data-testid": "auth-name",
  });
  nameField.value = name;
  const hint = h("p", { id: "auth-hint", class: "hint" });
  const passwordField = h("input", {
    id: "auth-password",
    name: "password",
    type: "password",
    required: true,
    "data-testid": "auth-password",
  });
  const reveal = h(
    "button",
    {
      type: "button",
      class: "icon-button reveal",
      "aria-label": "Show password",
      "aria-pressed": "false",
      onclick: () => {
        const shown = passwordField.type === "text";
        passwordField.type = shown ? "password" : "text";
        reveal.setAttribute("aria-pressed", String(!shown));
      },
    },
    icon("eye"),
  );
  const submit = h("button", { type: "submit", class: "button primary wide", "data-testid": "auth-submit" });
  const tabs = ["in", "up"].map((one) =>
    h(
      "button",
      { type: "button", class: "segment", "data-testid": `auth-sign-${one}`, onclick: () => show(one) },
      one === "in" ? "Sign in" : "Sign up",
    ),
  );

  function show(next) {
    mode = next;
    const words = WORDS[mode];
    setText(title, words.title);
    setText(lead, words.lead);
    setText(submit, words.submit);
    setText(fault, "");
    setText(hint, mode === "up" ? "Letters, digits and . _ - @ +" : "");
    passwordField.setAttribute("autocomplete", mode === "up" ? "new-password" : "current-password");
    tabs.forEach((tab, i) => tab.setAttribute("aria-pressed", String((i === 1) === (mode === "up"))));
    (nameField.value ? passwordField : nameField).focus();
  }

  async function send(event) {
    event.preventDefault();
    if (busy) return;
    const user = nameField.value.trim();
    const wrong = nameFault(user);
    if (wrong) {
      setText(fault, wrong);
      nameField.focus();
      return;
    }
    busy = true;
    submit.disabled = true;
    setText(submit, WORDS[mode].busy);
    setText(fault, "");
    try {
      if (mode === "up") await api.signUp(user, passwordField.value);
      onSignedIn(await api.signIn(user, passwordField.value));
    } catch (error) {
      setText(fault, faultText(error, mode));
      passwordField.focus();
    } finally {
      busy = false;
      submit.disabled = false;
      setText(submit, WORDS[mode].submit);
    }
  }

  const view = h(
    "main",
    { class: "auth", "aria-labelledby": "auth-title" },
    h(
      "div",
      { class: "auth-card" },
      h("div", { class: "auth-logo" }, icon("logo")),
      title,
      lead,
      notice && h("p", { class: "notice", role: "status" }, notice),
      h("div", { class: "segments", role: "group", "aria-label": "Sign in or sign up" }, tabs),
      h(
        "form",
        { onsubmit: send, "data-testid": "auth-form", novalidate: true },
        h("label", { for: "auth-name" }, "Name"),
        nameField,
        hint,
        h("label", { for: "auth-password" }, "Password"),
        h("div", { class: "field-with-button" }, passwordField, reveal),
        fault,
        submit,
      ),
    ),
  );
  show(mode);
  return {
    element: view,
    focus: () => (nameField.value ? passwordField : nameField).focus(),
  };
}

function faultText(error, mode) {
  if (error.status === 401) return "Name or password is wrong.";
  if (error.status === 409) return "This name is taken. Choose another one, or sign in.";
  if (error.status === 403 && mode === "up") return "New accounts cannot be made on this server.";
  return error.message;
}
