// Who did what, newest first.
import { fill, h, pill, setText } from "../dom.js";
import { formatDateTime, formatTimestamp, sentence } from "../format.js";

const PAGE = 50;
const LEVELS = { Allowed: "good", Denied: "bad", Failed: "warn" };
const COLUMNS = ["Time", "Actor", "Action", "Resource", "Outcome", "From", "Details"];

/** Details as `name: value` lines; nested values keep their JSON. */
export function detailText(detail) {
  return Object.entries(detail ?? {})
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) => (name.endsWith("AtMs") ? `${name.slice(0, -2)}: ${formatDateTime(value)}` : `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`))
    .join("\n");
}

function row(event) {
  const cell = (title, content, extra = "") => h("td", { role: "cell", "data-label": title }, h("div", { class: `cell ${extra}` }, content));
  return h(
    "tr",
    { role: "row" },
    cell("Time", formatTimestamp(event.at), "nowrap"),
    cell("Actor", event.actor, "words"),
    cell("Action", event.action, "words"),
    cell("Resource", event.resource ?? ""),
    cell("Outcome", pill(LEVELS[event.outcome] ?? "unknown", event.outcome)),
    cell("From", event.sourceAddress ?? "", "words"),
    cell("Details", detailText(event.detail), "details"),
  );
}

export function auditView(container, context) {
  const abort = new AbortController();
  const body = h("tbody", { role: "rowgroup" });
  const status = h("p", { class: "empty" }, "Loading");
  const more = h("button", { type: "button", class: "button", hidden: true, onclick: load }, "Show older");
  const refresh = h("button", { type: "button", class: "button", onclick: reload }, "Refresh");
  const table = h("table", { class: "stacking", role: "table", "aria-label": "Audit events", hidden: true }, h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, COLUMNS.map((title) => h("th", { scope: "col", role: "columnheader" }, title)))), body);
  let cursor = null;

  fill(container, h("section", { class: "panel", "aria-label": "Audit events, newest first" }, h("div", { class: "panel-head" }, h("p", { class: "muted" }, "Newest first"), refresh), h("div", { class: "table-scroll" }, table), status, more));

  async function load() {
    more.disabled = true;
    try {
      const { items, nextCursor } = await context.api.audit({ cursor, limit: PAGE, signal: abort.signal });
      for (const event of items) body.append(row(event));
      cursor = nextCursor ?? null;
      more.hidden = cursor === null;
      const none = body.childElementCount === 0;
      table.hidden = none;
      status.hidden = !none;
      setText(status, "No event has been recorded.");
    } catch (error) {
      if (abort.signal.aborted) return;
      status.hidden = false;
      setText(status, error.status === 403 ? "Only admins may read the audit." : sentence(error.message));
    } finally {
      more.disabled = false;
    }
  }

  function reload() {
    cursor = null;
    fill(body);
    return load();
  }

  load();
  return { unmount: () => abort.abort() };
}
