// Every scraped target: up or down, and why.
import { fill, h, keyed, pill, setAttribute, setText } from "../dom.js";
import { formatAge, formatSeconds, groupDigits, NO_DATA } from "../format.js";
import { routeHash } from "../router.js";

const PAGE_SIZE = 100;

const COLUMNS = [
  { key: "state", title: "State", value: (t) => (t.up === false ? 0 : t.up === true ? 2 : 1) },
  { key: "instance", title: "Instance", value: (t) => t.instance },
  { key: "job", title: "Job", value: (t) => t.job },
  { key: "target", title: "CollectorTarget", value: (t) => t.target },
  { key: "last", title: "Last scrape", value: (t) => t.lastScrapeMs },
  { key: "duration", title: "Duration", value: (t) => t.scrapeDurationSeconds, number: true },
  { key: "samples", title: "Samples", value: (t) => t.samples, number: true },
];

const STATES = { all: () => true, up: (t) => t.up === true, down: (t) => t.up === false, unknown: (t) => t.up !== true && t.up !== false };

function compareValues(a, b) {
  const missing = (value) => value === null || value === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

/** The targets that match, in order; ties are broken by instance so that rows do not dance. */
export function selectTargets(targets, { state, filter, sortKey, descending }) {
  const column = COLUMNS.find((candidate) => candidate.key === sortKey);
  const words = filter.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const text = (t) => `${t.target} ${t.job} ${t.instance} ${t.reason ?? ""}`.toLowerCase();
  return targets
    .filter((t) => STATES[state](t) && words.every((word) => text(t).includes(word)))
    .sort((a, b) => (descending ? -1 : 1) * compareValues(column.value(a), column.value(b)) || compareValues(a.instance, b.instance));
}

export function targetsView(container, context, parameters) {
  const rows = new Map();
  let snapshot = context.snapshot;
  let pictureAgeMs = 0;
  let limit = PAGE_SIZE;
  const choice = { state: "all", filter: "", sortKey: "state", descending: false };

  const body = h("tbody", { role: "rowgroup" });
  const empty = h("p", { class: "empty" }, "Waiting for the first figures");
  const more = h("button", { type: "button", class: "button", hidden: true });
  const truncated = h("p", { class: "notice notice-warn", hidden: true });
  const count = h("p", { class: "muted count" });
  const filter = h("input", { type: "search", placeholder: "name or reason" });
  const stateButtons = Object.keys(STATES).map((state) => h("button", { type: "button", "aria-pressed": "false", "data-state": state }, state[0].toUpperCase() + state.slice(1)));
  const headers = COLUMNS.map((column) => {
    const button = h("button", { type: "button", class: "sort" }, column.title);
    button.addEventListener("click", () => {
      choice.descending = choice.sortKey === column.key ? !choice.descending : false;
      choice.sortKey = column.key;
      draw();
    });
    return { column, th: h("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null }, button) };
  });
  const table = h("table", { class: "stacking targets", role: "table", "aria-label": "Targets", hidden: true }, h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, headers.map(({ th }) => th))), body);

  fill(
    container,
    h(
      "section",
      { class: "panel", "aria-label": "Scraped targets" },
      h("div", { class: "panel-head" }, h("div", { class: "segmented", role: "group", "aria-label": "State" }, stateButtons), h("label", { class: "filter" }, h("span", {}, "Filter"), filter), count),
      h("div", { class: "table-scroll live-values" }, table),
      empty,
      more,
      truncated,
    ),
  );

  filter.addEventListener("input", () => {
    choice.filter = filter.value;
    limit = PAGE_SIZE;
    draw();
  });
  more.addEventListener("click", () => {
    limit += PAGE_SIZE;
    draw();
  });
  for (const button of stateButtons) {
    button.addEventListener("click", () => context.navigate("targets", button.dataset.state === "all" ? {} : { state: button.dataset.state }));
  }

  function route(next) {
    const state = next.get("state");
    choice.state = state !== null && Object.hasOwn(STATES, state) ? state : "all";
    limit = PAGE_SIZE;
    for (const button of stateButtons) setAttribute(button, "aria-pressed", String(button.dataset.state === choice.state));
    draw();
  }

  function draw() {
    if (snapshot === null) return;
    const matching = selectTargets(snapshot.targets, choice);
    const shown = matching.slice(0, limit);
    keyed(body, rows, shown, keyOf, createRow);
    for (const { column, th } of headers) {
      setAttribute(th, "aria-sort", column.key === choice.sortKey ? (choice.descending ? "descending" : "ascending") : null);
    }
    const hidden = matching.length - shown.length;
    const left = snapshot.truncated?.targets ?? 0;
    truncated.hidden = left === 0;
    setText(truncated, `This list ends at ${groupDigits(snapshot.targets.length)} targets, those that are down first; ${groupDigits(left)} more are scraped. Query can ask for any of them: up.`);
    more.hidden = hidden <= 0;
    setText(more, `Show ${Math.min(hidden, PAGE_SIZE)} more of ${groupDigits(hidden)}`);
    const all = `${groupDigits(snapshot.targets.length)} ${snapshot.targets.length === 1 ? "target" : "targets"}`;
    setText(count, matching.length === snapshot.targets.length ? all : `${groupDigits(matching.length)} of ${all}`);
    table.hidden = shown.length === 0;
    empty.hidden = shown.length > 0;
    if (shown.length === 0) {
      fill(
        empty,
        snapshot.targets.length === 0
          ? ["No target has been discovered yet. ", h("a", { href: routeHash("resources") }, "Resources"), " shows what the CollectorTargets are doing."]
          : "No target matches.",
      );
    }
  }

  const keyOf = (t) => `${t.target}\n${t.job}\n${t.instance}`;

  function createRow() {
    const state = h("div", { class: "cell" });
    const reason = h("p", { class: "reason" });
    const texts = Object.fromEntries(COLUMNS.slice(1).map(({ key }) => [key, h("span", { class: "value" })]));
    const cell = (column) =>
      h("td", { role: "cell", "data-label": column.title, class: column.number ? "number" : null }, h("div", { class: "cell" }, texts[column.key], column.key === "instance" && reason));
    const element = h("tr", { role: "row" }, h("td", { role: "cell", "data-label": "State" }, state), COLUMNS.slice(1).map(cell));
    let shownState;
    let lastScrapeMs = null;
    const show = (key, text) => {
      setText(texts[key], text);
      texts[key].classList.toggle("unknown", text === NO_DATA);
    };
    const showAge = () => show("last", formatAge(lastScrapeMs, snapshot.generatedAtMs + pictureAgeMs));
    return {
      element,
      showAge,
      update(t) {
        lastScrapeMs = t.lastScrapeMs;
        if (shownState !== t.up) {
          shownState = t.up;
          fill(state, t.up === true ? pill("good", "Up") : t.up === false ? pill("bad", "Down") : pill("unknown", "Unknown"));
        }
        reason.hidden = t.up !== false;
        setText(reason, t.up === false ? (t.reason ?? "no reason was given") : "");
        show("instance", t.instance);
        show("job", t.job);
        show("target", t.target);
        showAge();
        show("duration", formatSeconds(t.scrapeDurationSeconds));
        show("samples", groupDigits(t.samples));
      },
    };
  }

  route(parameters);
  return {
    route,
    update(next) {
      snapshot = next;
      pictureAgeMs = 0;
      draw();
    },
    tick(live) {
      pictureAgeMs = live.ageMs ?? 0;
      for (const row of rows.values()) row.showAge();
    },
  };
}
