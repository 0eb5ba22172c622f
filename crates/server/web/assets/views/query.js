// The PromQL box: at one moment or over a range, as a table or a graph, with the place of an error.
import { TimeChart } from "../charts.js";
import { fill, h, setAttribute, setText } from "../dom.js";
import { formatDateTime, formatPlain, formatSeconds, groupDigits } from "../format.js";
import { cutAtError, errorIndex, parseDuration, plainError, rememberQuery } from "../promql-text.js";
import { chooseStep, pointsOf, seriesName } from "../series.js";
import { resultTable } from "./query-table.js";

const HISTORY_KEY = "ers-queries";
const DRAWN_SERIES = 40;
const METRIC_OPTIONS = 2_000;

/** First steps for somebody who has never seen these metrics. */
const EXAMPLES = [
  ["Targets that are down", "up == 0"],
  ["CPU used by node, percent", '100 * (1 - avg by (node) (rate(node_cpu_seconds_total{mode="idle"}[5m])))'],
  ["Memory available by node", "node_memory_MemAvailable_bytes"],
  ["Fullest file systems, percent", "topk(5, 100 * (1 - node_filesystem_avail_bytes / node_filesystem_size_bytes))"],
  ["Samples per scrape and target", "scrape_samples_scraped"],
];

function readHistory() {
  try {
    const history = JSON.parse(localStorage.getItem(HISTORY_KEY) ?? "[]");
    return Array.isArray(history) ? history.filter((entry) => typeof entry === "string") : [];
  } catch {
    return [];
  }
}

function writeHistory(history) {
  try {
    localStorage.setItem(HISTORY_KEY, JSON.stringify(history));
  } catch {
    // Without storage the history lasts as long as the view.
  }
}

/** RFC 3339 as the local time that a datetime-local field wants; the address has UTC, so that it means the same to everybody. */
export function localInput(text) {
  const ms = Date.parse(text ?? "");
  return Number.isNaN(ms) ? "" : formatDateTime(ms).replace(" ", "T");
}

/** On a shared machine the next person must not read what this one asked. */
export function forgetQueries() {
  try {
    localStorage.removeItem(HISTORY_KEY);
  } catch {
    // Then nothing was kept either.
  }
}

export function queryView(container, context, parameters) {
  let history = readHistory();
  let running = null;
  let chart = null;
  let browsing = -1;
  let mode = "graph";

  const editor = h("textarea", { id: "expr", rows: "2", spellcheck: "false", autocapitalize: "none", autocomplete: "off", "aria-describedby": "expr-help", placeholder: 'rate(node_cpu_seconds_total{mode="idle"}[5m])' });
  const metric = h("input", { list: "metric-names", autocomplete: "off", spellcheck: "false", placeholder: "node_…" });
  const metricNames = h("datalist", { id: "metric-names" });
  const recent = h("select", {});
  const range = h("input", { value: "1h", size: "6", autocomplete: "off", spellcheck: "false" });
  const step = h("input", { value: "", size: "6", placeholder: "auto", autocomplete: "off", spellcheck: "false" });
  const end = h("input", { type: "datetime-local", step: "1" });
  const run = h("button", { type: "submit", class: "button button-primary", "aria-keyshortcuts": "Control+Enter" }, "Run");
  const rangeFields = h("div", { class: "fields-inline" }, h("label", {}, h("span", {}, "Range"), range), h("label", {}, h("span", {}, "Step"), step));
  const modes = ["graph", "table"].map((name) => h("button", { type: "button", "aria-pressed": "false", "data-mode": name }, name === "graph" ? "Graph" : "Table"));
  const failure = h("div", { class: "notice notice-bad query-error", role: "alert", hidden: true });
  const summary = h("p", { class: "muted", role: "status" });
  const result = h("div", { class: "query-result" });

  const form = h(
    "form",
    { class: "panel query-form" },
    h("div", { class: "field" }, h("label", { for: "expr" }, "PromQL expression"), editor, h("p", { class: "hint", id: "expr-help" }, h("kbd", {}, "Ctrl"), " + ", h("kbd", {}, "Enter"), " runs it, ", h("kbd", {}, "Alt"), " + ", h("kbd", {}, "↑"), " and ", h("kbd", {}, "↓"), " go through earlier ones.")),
    failure,
    h(
      "div",
      { class: "fields-inline" },
      h("div", { class: "segmented", role: "group", "aria-label": "Show as" }, modes),
      rangeFields,
      h("label", {}, h("span", {}, "End"), end),
      h("label", { class: "grow" }, h("span", {}, "Insert a metric"), metric, metricNames),
      h("label", { class: "grow" }, h("span", {}, "Earlier and examples"), recent),
      run,
    ),
  );
  fill(container, form, h("section", { class: "panel", "aria-label": "Result" }, h("div", { class: "panel-head" }, h("h2", {}, "Result"), summary), result));

  const abort = new AbortController();
  context.api.metricNames(abort.signal).then(
    (names) => fill(metricNames, names.slice(0, METRIC_OPTIONS).map((name) => h("option", { value: name }))),
    () => metric.setAttribute("placeholder", "names could not be read"),
  );

  function showHistory() {
    fill(
      recent,
      h("option", { value: "" }, "choose"),
      history.length > 0 && h("optgroup", { label: "Earlier in this browser" }, history.map((entry) => h("option", { value: entry }, entry))),
      h("optgroup", { label: "Examples" }, EXAMPLES.map(([title, expr]) => h("option", { value: expr }, title))),
    );
  }

  function showMode(next) {
    mode = next === "table" ? "table" : "graph";
    for (const button of modes) setAttribute(button, "aria-pressed", String(button.dataset.mode === mode));
    rangeFields.hidden = mode !== "graph";
  }

  function insertAtCursor(text) {
    editor.focus();
    editor.setRangeText(text, editor.selectionStart, editor.selectionEnd, "end");
  }

  metric.addEventListener("change", () => {
    if (metric.value === "") return;
    insertAtCursor(metric.value);
    metric.value = "";
  });
  recent.addEventListener("change", () => {
    if (recent.value !== "") editor.value = recent.value;
    recent.value = "";
    editor.focus();
  });
  for (const button of modes) {
    button.addEventListener("click", () => {
      showMode(button.dataset.mode);
      if (editor.value.trim() !== "") submit();
    });
  }
  editor.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    } else if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      browsing = Math.max(-1, Math.min(history.length - 1, browsing + (event.key === "ArrowUp" ? 1 : -1)));
      editor.value = browsing === -1 ? "" : history[browsing];
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });

  /** The query goes into the address, so that it can be sent to a colleague and found with Back. */
  function submit() {
    const next = { expr: editor.value, mode };
    if (mode === "graph") {
      next.range = range.value.trim();
      if (step.value.trim() !== "") next.step = step.value.trim();
    }
    if (end.value !== "") next.end = new Date(end.value).toISOString();
    const before = location.hash;
    context.navigate("query", next);
    // The same address again is no change of address; the user wants fresh data.
    if (location.hash === before) execute();
  }

  function clearResult() {
    chart?.destroy();
    chart = null;
    fill(result);
    setText(summary, "");
  }

  function clearError() {
    failure.hidden = true;
    fill(failure);
    editor.removeAttribute("aria-invalid");
  }

  function fail(message, field = null) {
    clearResult();
    failure.hidden = false;
    fill(failure, h("p", {}, message));
    fill(result, h("p", { class: "empty" }, "No result. The reason stands above."));
    field?.focus();
  }

  function failAtPlace(error, expr) {
    const index = error.status === 400 || error.status === 422 ? errorIndex(error.message, expr) : null;
    fail(plainError(error.message));
    if (index === null) return;
    const { before, marked, after } = cutAtError(expr, index);
    const place = h("mark", {}, marked === "" ? "end of the query" : marked);
    failure.append(h("pre", { class: "error-place" }, before, place, after));
    failure.append(
      h("button", { type: "button", class: "button button-small", onclick: () => {
        editor.focus();
        editor.setSelectionRange(index, index + marked.length);
      } }, "Go to the place"),
    );
    editor.setAttribute("aria-invalid", "true");
  }

  function endSeconds() {
    if (end.value !== "") return Date.parse(end.value) / 1000;
    const { snapshot, live } = context;
    // The server's time, carried on by the age of the last message; this browser's clock may be wrong.
    return snapshot ? (snapshot.generatedAtMs + (live.ageMs ?? 0)) / 1000 : Date.now() / 1000;
  }

  async function execute() {
    const expr = editor.value.trim();
    clearError();
    if (expr === "") return fail("Write an expression first.", editor);
    const rangeSeconds = parseDuration(range.value);
    if (mode === "graph" && rangeSeconds === null) return fail("The range must be a duration like 30m, 6h or 7d.", range);
    const stepSeconds = step.value.trim() === "" ? chooseStep(rangeSeconds ?? 0) : parseDuration(step.value);
    if (mode === "graph" && stepSeconds === null) return fail("The step must be a duration like 15s or 5m, or empty.", step);

    running?.abort();
    running = new AbortController();
    const { signal } = running;
    setText(summary, "Running");
    setAttribute(result, "aria-busy", "true");
    const started = performance.now();
    try {
      const to = endSeconds();
      const answer =
        mode === "graph"
          ? await context.api.queryRange(expr, { start: (to - rangeSeconds).toFixed(3), end: to.toFixed(3), step: stepSeconds }, signal)
          : await context.api.query(expr, to.toFixed(3), signal);
      history = rememberQuery(history, expr);
      browsing = -1;
      writeHistory(history);
      showHistory();
      clearResult();
      if (mode === "graph") drawGraph(expr, answer.data.result, { to, rangeSeconds, stepSeconds });
      else result.append(resultTable(answer.data));
      const count = answer.data.resultType === "scalar" || answer.data.resultType === "string" ? 1 : answer.data.result.length;
      setText(summary, `${groupDigits(count)} series in ${formatSeconds((performance.now() - started) / 1000)}`);
      for (const warning of answer.warnings) result.prepend(h("p", { class: "notice notice-warn" }, warning));
    } catch (error) {
      if (signal.aborted) return;
      failAtPlace(error, expr);
    } finally {
      if (!signal.aborted) result.removeAttribute("aria-busy");
    }
  }

  function drawGraph(expr, series, { to, rangeSeconds, stepSeconds }) {
    if (series.length === 0) {
      result.append(h("p", { class: "empty" }, "No series in this time."));
      return;
    }
    if (series.length > DRAWN_SERIES) {
      result.append(h("p", { class: "notice notice-warn" }, `The graph shows the first ${DRAWN_SERIES} of ${groupDigits(series.length)} series; the table below has all. topk() or sum by () makes fewer.`));
    }
    chart = new TimeChart({ title: "Graph", format: formatPlain, tall: true, legend: false });
    result.append(chart.element);
    chart.show(
      series.slice(0, DRAWN_SERIES).map(({ metric: labels, values }) => ({ label: seriesName(labels), points: pointsOf(values) })),
      { fromMs: (to - rangeSeconds) * 1000, toMs: to * 1000, gapMs: 1.5 * stepSeconds * 1000 },
    );
    result.append(resultTable({ resultType: "matrix", result: series }, { colours: DRAWN_SERIES }));
  }

  function route(next) {
    showMode(next.get("mode") ?? mode);
    if (next.has("range")) range.value = next.get("range");
    step.value = next.get("step") ?? "";
    end.value = localInput(next.get("end"));
    if (next.has("expr")) {
      editor.value = next.get("expr");
      execute();
    }
  }

  showHistory();
  fill(result, h("p", { class: "empty" }, "The result appears here."));
  route(parameters);
  return {
    route,
    unmount() {
      abort.abort();
      running?.abort();
      chart?.destroy();
    },
  };
}
