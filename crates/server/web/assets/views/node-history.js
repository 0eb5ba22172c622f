// The past of one node: charts filled by range queries and continued by live messages.
import { TimeChart } from "../charts.js";
import { fill, h, setAttribute, setText } from "../dom.js";
import { formatDateTime } from "../format.js";
import { nodeCharts } from "../history.js";
import { RANGES, appendPoint, chartStart, pointsOf } from "../series.js";

const DEFAULT_RANGE = "1h";
const DEFAULT_SAMPLE_INTERVAL_MS = 15_000;
/** Points further apart than this, and than a few steps or scrapes, are an outage. */
const SHORTEST_GAP_MS = 90_000;
const RANGE_KEY = "ers-history-range";
/** Queries of one node that run at the same time: the page must not be the server's heaviest user. */
const PARALLEL = 3;

export class NodeHistory {
  #node = null;
  #range = DEFAULT_RANGE;
  #plan = null;
  #charts = [];
  #points = new Map();
  #lastSampleMs = null;
  #offsetMs = 0;
  #sampleIntervalMs = DEFAULT_SAMPLE_INTERVAL_MS;
  #abort = null;

  constructor(context) {
    this.context = context;
    try {
      const kept = sessionStorage.getItem(RANGE_KEY);
      if (RANGES.some(([name]) => name === kept)) this.#range = kept;
    } catch {
      // Storage may be forbidden; the default range is fine.
    }
    this.title = h("h2", { id: "history-title" }, "History");
    this.begin = h("p", { class: "muted" });
    this.grid = h("div", { class: "charts" });
    this.status = h("p", { class: "notice notice-warn", hidden: true });
    this.buttons = RANGES.map(([name]) => h("button", { type: "button", "aria-pressed": String(name === this.#range), onclick: () => this.#choose(name) }, name));
    this.element = h(
      "section",
      { class: "panel", "aria-labelledby": "history-title", hidden: true },
      h("div", { class: "panel-head" }, this.title, this.begin, h("div", { class: "segmented", role: "group", "aria-label": "Time range" }, this.buttons)),
      this.status,
      this.grid,
    );
  }

  select(node) {
    if (node === this.#node) return;
    this.#node = node;
    setText(this.title, `History of ${node}`);
    this.#build();
    this.reload();
  }

  /** Fetches the whole range again: at first, for another node or range, and after a gap in the live feed. */
  async reload() {
    if (this.#node === null) return;
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const rangeSeconds = this.#rangeSeconds();
    const { stepSeconds } = this.#plan;
    // The server's clock rules: a browser that is an hour off would else ask for the future.
    const nowSeconds = this.#now() / 1000;
    const end = Math.floor(nowSeconds / stepSeconds) * stepSeconds;
    const jobs = this.#plan.charts.flatMap((chart) => chart.lines.map((line) => ({ chart, line })));
    const failures = [];
    const worker = async () => {
      for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) {
        const { chart, line } = job;
        try {
          const { data } = await this.context.api.queryRange(line.query, { start: end - rangeSeconds, end, step: stepSeconds }, abort.signal);
          const old = this.#points.get(line) ?? [];
          const points = pointsOf(data.result[0]?.values);
          // Live points that came while the query ran are newer than its end.
          const lastMs = points.at(-1)?.[0] ?? 0;
          for (const point of old) if (point[0] > Math.max(lastMs, end * 1000)) points.push(point);
          const node = this.#liveNode();
          if (node) appendPoint(points, [node.lastSampleMs, line.live(node)], rangeSeconds * 1000);
          this.#points.set(line, points);
        } catch (failure) {
          if (abort.signal.aborted) return;
          failures.push(`${chart.title}: ${failure.message}`);
        }
        this.#draw(chart);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
    if (abort.signal.aborted) return;
    this.status.hidden = failures.length === 0;
    if (failures.length > 0) setText(this.status, `Part of the history is missing. ${failures[0]}`);
  }

  update(snapshot, selected) {
    this.#offsetMs = snapshot.generatedAtMs - performance.now();
    this.#sampleIntervalMs = snapshot.sampleIntervalMs ?? DEFAULT_SAMPLE_INTERVAL_MS;
    this.element.hidden = selected === null;
    if (selected === null) return;
    if (selected !== this.#node) this.select(selected);
    const node = this.#liveNode(snapshot);
    if (!node || node.lastSampleMs === this.#lastSampleMs) return;
    this.#lastSampleMs = node.lastSampleMs;
    for (const chart of this.#plan.charts) {
      for (const line of chart.lines) {
        const points = this.#points.get(line);
        if (points) appendPoint(points, [node.lastSampleMs, line.live(node)], this.#rangeSeconds() * 1000);
      }
      this.#draw(chart);
    }
  }

  destroy() {
    this.#abort?.abort();
    for (const { view } of this.#charts) view.destroy();
  }

  #now() {
    return performance.now() + this.#offsetMs;
  }

  /** The selected node in the newest picture, if it has a sample; the first picture comes before the context has one. */
  #liveNode(snapshot = this.context.snapshot) {
    return snapshot?.nodes.find((node) => node.node === this.#node && node.lastSampleMs !== null);
  }

  #rangeSeconds() {
    return RANGES.find(([name]) => name === this.#range)[1];
  }

  #choose(range) {
    this.#range = range;
    try {
      sessionStorage.setItem(RANGE_KEY, range);
    } catch {
      // Then the choice lasts as long as the page.
    }
    for (const button of this.buttons) setAttribute(button, "aria-pressed", String(button.textContent === range));
    this.#build();
    this.reload();
  }

  /** Charts are kept when only the node or the range changes: the page must not jump. */
  #build() {
    this.#plan = nodeCharts(this.#node, this.#rangeSeconds(), this.#sampleIntervalMs);
    this.#points = new Map();
    this.#lastSampleMs = null;
    if (this.#charts.length === 0) {
      this.#charts = this.#plan.charts.map((chart) => ({ id: chart.id, view: new TimeChart(chart) }));
      fill(this.grid, this.#charts.map(({ view }) => view.element));
    }
  }

  #draw(chart) {
    const lines = chart.lines.filter((line) => this.#points.has(line)).map((line) => ({ label: line.label, reference: line.reference, points: this.#points.get(line) }));
    if (lines.length === 0) return;
    const toMs = this.#now();
    const rangeStartMs = toMs - this.#rangeSeconds() * 1000;
    const { fromMs, firstMs } = chartStart([...this.#points.values()], rangeStartMs, toMs);
    // A query's first point may lie up to a step after the start of the range without anything missing.
    const begins = firstMs !== null && firstMs > rangeStartMs + SHORTEST_GAP_MS + 2 * this.#plan.stepSeconds * 1000;
    setText(this.begin, begins ? `Data begins ${formatDateTime(firstMs).slice(0, 16)}` : "");
    this.#charts
      .find(({ id }) => id === chart.id)
      .view.show(lines, { fromMs, toMs, gapMs: Math.max(SHORTEST_GAP_MS, 2.5 * this.#plan.stepSeconds * 1000, 2.5 * this.#sampleIntervalMs) });
  }
}
