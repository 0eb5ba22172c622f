// API tokens and the own password.
import { fill, h, pill, setText } from "../dom.js";
import { formatTimestamp, sentence } from "../format.js";
import { announce } from "../shell.js";
import { secretDialog, confirmDialog } from "./dialogs.js";

const SCOPES = [
  ["read", "Read", "query metrics, see resources"],
  ["write", "Write", "send metrics by remote write"],
  ["admin", "Admin", "manage tokens, read the audit"],
];
const LIFETIMES = [
  [30, "30 days"],
  [90, "90 days"],
  [365, "1 year"],
  [null, "no end"],
];

function failureNotice() {
  const element = h("p", { class: "notice notice-bad", role: "alert", hidden: true });
  return {
    element,
    show(message) {
      element.hidden = false;
      setText(element, message);
    },
    clear() {
      element.hidden = true;
      setText(element, "");
    },
  };
}

export function accessView(container, context) {
  const abort = new AbortController();
  fill(container, h("div", { class: "columns columns-wide-first" }, tokensPanel(context, abort.signal), h("div", { class: "stack" }, sessionPanel(context), passwordPanel(context))));
  return { unmount: () => abort.abort() };
}

function sessionPanel({ user, session }) {
  const facts = [
    ["User", user.username],
    ["Role", user.role ?? "viewer"],
    ["Session ends", formatTimestamp(session.expiresAt)],
  ];
  return h("section", { class: "panel", "aria-labelledby": "session-title" }, h("div", { class: "panel-head" }, h("h2", { id: "session-title" }, "Session")), h("dl", { class: "facts" }, facts.map(([label, text]) => h("div", {}, h("dt", {}, label), h("dd", {}, text)))));
}

function tokensPanel({ api }, signal) {
  const failure = failureNotice();
  const list = h("div", {}, h("p", { class: "empty" }, "Loading"));
  const name = h("input", { id: "token-name", maxlength: "100", autocomplete: "off", "aria-describedby": "token-name-hint" });
  const lifetime = h("select", { id: "token-lifetime" }, LIFETIMES.map(([days, title]) => h("option", { value: days ?? "", selected: days === 90 }, title)));
  const scopes = SCOPES.map(([scope, title, hint]) => ({ scope, box: h("input", { type: "checkbox", value: scope, checked: scope === "read" }), title, hint }));
  const create = h("button", { type: "submit", class: "button button-primary" }, "Create token");

  async function load() {
    try {
      draw(await api.tokens(signal));
    } catch (error) {
      if (signal.aborted) return;
      form.hidden = error.status === 403;
      fill(list, h("p", { class: "empty" }, error.status === 403 ? "Only admins may see API tokens." : sentence(error.message)));
    }
  }

  function draw(items) {
    if (items.length === 0) {
      fill(list, h("p", { class: "empty" }, "No API token exists."));
      return;
    }
    const columns = ["Name", "Scopes", "Created", "Ends", "Last used", ""];
    fill(
      list,
      h(
        "div",
        { class: "table-scroll" },
        h(
          "table",
          { class: "stacking", role: "table", "aria-label": "API tokens" },
          h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((title) => h("th", { scope: "col", role: "columnheader" }, title === "" ? h("span", { class: "visually-hidden" }, "Action") : title)))),
          h("tbody", { role: "rowgroup" }, items.map(tokenRow)),
        ),
      ),
    );
  }

  function tokenRow(token) {
    const ended = token.expiresAt && Date.parse(token.expiresAt) < Date.now();
    const cell = (title, content) => h("td", { role: "cell", "data-label": title }, h("div", { class: "cell" }, content));
    return h(
      "tr",
      { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, token.name),
      cell("Scopes", (token.scopes ?? []).join(", ")),
      cell("Created", formatTimestamp(token.createdAt)),
      cell("Ends", ended ? pill("bad", "Ended") : token.expiresAt ? formatTimestamp(token.expiresAt) : "never"),
      cell("Last used", token.lastUsedAt ? formatTimestamp(token.lastUsedAt) : "never"),
      cell("Action", h("button", { type: "button", class: "button button-small button-danger", "aria-label": `Revoke ${token.name}`, onclick: () => revoke(token) }, "Revoke")),
    );
  }

  async function revoke(token) {
    const sure = await confirmDialog({ title: `Revoke ${token.name}?`, text: "Whatever uses this token is refused from now on. This can't be undone.", action: "Revoke" });
    if (!sure) return;
    failure.clear();
    try {
      await api.revokeToken(token.id);
      announce(`Token ${token.name} is revoked.`);
    } catch (error) {
      failure.show(`The token was not revoked. ${sentence(error.message)}`);
    }
    await load();
    name.focus();
  }

  const form = h(
    "form",
    { class: "token-form", "aria-labelledby": "new-token-title", novalidate: true },
    h("h3", { id: "new-token-title" }, "New token"),
    h("div", { class: "form-grid" }, h("div", { class: "field" }, h("label", { for: "token-name" }, "Name"), name, h("p", { class: "hint", id: "token-name-hint" }, "What will use it, for example grafana")), h("div", { class: "field" }, h("label", { for: "token-lifetime" }, "Valid for"), lifetime)),
    h("fieldset", { class: "scopes" }, h("legend", {}, "Scopes"), scopes.map(({ box, title, hint }) => h("label", {}, box, h("span", {}, h("b", {}, title), " ", h("span", { class: "muted" }, hint))))),
    failure.element,
    create,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    failure.clear();
    const chosen = scopes.filter(({ box }) => box.checked).map(({ scope }) => scope);
    if (name.value.trim() === "") {
      failure.show("Give the token a name.");
      name.focus();
      return;
    }
    if (chosen.length === 0) {
      failure.show("Choose at least one scope.");
      scopes[0].box.focus();
      return;
    }
    create.disabled = true;
    try {
      const token = await api.createToken({ name: name.value.trim(), scopes: chosen, expiresInDays: lifetime.value === "" ? null : Number(lifetime.value) });
      name.value = "";
      await secretDialog({ title: `Token ${token.name}`, secret: token.secret });
      await load();
    } catch (error) {
      failure.show(sentence(error.message));
      if (error.field === "name") name.focus();
    } finally {
      create.disabled = false;
    }
  });

  load();
  return h("section", { class: "panel", "aria-labelledby": "tokens-title" }, h("div", { class: "panel-head" }, h("h2", { id: "tokens-title" }, "API tokens")), list, form);
}

const SHORTEST_PASSWORD = 12;

function passwordPanel({ api, user }) {
  const failure = failureNotice();
  const done = h("p", { class: "notice notice-good", role: "status", hidden: true }, "The password is changed.");
  const field = (id, label, autocomplete, hint = null) => {
    const input = h("input", { id, type: "password", autocomplete, "aria-describedby": hint ? `${id}-hint` : null });
    return { input, element: h("div", { class: "field" }, h("label", { for: id }, label), input, hint && h("p", { class: "hint", id: `${id}-hint` }, hint)) };
  };
  const current = field("password-current", "Current password", "current-password");
  const next = field("password-new", "New password", "new-password", `At least ${SHORTEST_PASSWORD} characters`);
  const again = field("password-again", "New password again", "new-password");
  const submit = h("button", { type: "submit", class: "button" }, "Change password");
  const byField = { current: current.input, new: next.input };

  const refuse = (message, input) => {
    failure.show(message);
    input?.focus();
  };
  // The user name, hidden, tells password managers whose password this is.
  const owner = h("input", { type: "text", autocomplete: "username", value: user.username, hidden: true, readOnly: true, "aria-label": "User name" });
  const form = h("form", { novalidate: true, "aria-labelledby": "password-title" }, owner, current.element, next.element, again.element, failure.element, done, submit);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    failure.clear();
    done.hidden = true;
    if (current.input.value === "") return refuse("Enter the current password.", current.input);
    if ([...next.input.value].length < SHORTEST_PASSWORD) return refuse(`The new password needs at least ${SHORTEST_PASSWORD} characters.`, next.input);
    if (next.input.value !== again.input.value) return refuse("The two new passwords differ.", again.input);
    submit.disabled = true;
    try {
      await api.changePassword(current.input.value, next.input.value);
      form.reset();
      owner.value = user.username;
      done.hidden = false;
      // Other sessions end with the old password, and this one may have been given a new CSRF token.
      await api.session();
    } catch (error) {
      refuse(error.status === 429 && error.retryAfterSeconds ? `${sentence(error.message)} Wait ${error.retryAfterSeconds} s.` : sentence(error.message), byField[error.field] ?? (error.status === 401 ? current.input : null));
    } finally {
      submit.disabled = false;
    }
  });
  return h("section", { class: "panel", "aria-labelledby": "password-title" }, h("div", { class: "panel-head" }, h("h2", { id: "password-title" }, "Password")), form);
}
