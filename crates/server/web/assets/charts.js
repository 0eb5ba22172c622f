// Time charts: Chart.js with this page's colours, honest gaps, an HTML legend and a table of the same numbers.
import { fill, h, setText } from "./dom.js";
import { NO_DATA, formatClock, formatDateTime } from "./format.js";
import { binaryAxis, summarize, thinOut, timeTicks, withGaps } from "./series.js";
import { onThemeChange } from "./theme.js";

const PALETTE_SIZE = 8;
/** A table of more rows than this is not read by anybody; it says how many points it stands for. */
const TABLE_ROWS = 60;

/** Resolves a colour of the style sheet: `light-dark()` has a value only on an element. */
function cssColour(name) {
  const probe = h("span", { hidden: true });
  document.body.append(probe);
  probe.style.color = `var(${name})`;
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

let resolved = null;
onThemeChange(() => {
  resolved = null;
});

/** Resolved once per scheme: each lookup costs a style calculation, and charts are drawn each few seconds. */
function chartColours() {
  resolved ??= {
    text: cssColour("--text-muted"),
    strong: cssColour("--text"),
    grid: cssColour("--grid"),
    surface: cssColour("--surface-raised"),
    border: cssColour("--border-strong"),
    lines: Array.from({ length: PALETTE_SIZE }, (_, index) => cssColour(`--chart-${index + 1}`)),
  };
  return resolved;
}

/** A vertical line at the time under the pointer: all lines are read at one moment. */
const crosshair = {
  id: "crosshair",
  afterDatasetsDraw(chart) {
    const active = chart.tooltip?.getActiveElements?.() ?? [];
    if (active.length === 0) return;
    const { ctx, chartArea } = chart;
    const x = active[0].element.x;
    ctx.save();
    ctx.strokeStyle = chart.options.crosshairColour;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(x, chartArea.top);
    ctx.lineTo(x, chartArea.bottom);
    ctx.stroke();
    ctx.restore();
  },
};

export class TimeChart {
  #chart = null;
  #lines = [];
  #window = null;
  #stopTheme;
  #tableOpen = false;

  /**
   * @param {{title: string, heading?: string, format: (value: number|null) => string, tickFormat?: (value: number) => string, binary?: boolean,
   *   max?: number|null, tall?: boolean, legend?: boolean}} options `binary`: ticks at multiples of powers of two, for bytes
   */
  constructor({ title, heading = "h3", format, tickFormat = format, binary = false, max = null, tall = false, legend = true }) {
    this.title = title;
    this.format = format;
    this.tickFormat = tickFormat;
    this.binary = binary;
    this.max = max;
    this.canvas = h("canvas", { role: "img", "aria-label": `${title}: ${NO_DATA}` });
    this.legend = h("ul", { class: "legend", hidden: !legend });
    this.note = h("p", { class: "chart-note" }, "Loading");
    this.table = h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": `${title}, values` });
    const details = h("details", { class: "chart-table" }, h("summary", {}, "Values", h("span", { class: "visually-hidden" }, ` of ${title}`)), this.table);
    details.addEventListener("toggle", () => {
      this.#tableOpen = details.open;
      this.#drawTable();
    });
    this.element = h(
      "section",
      { class: tall ? "chart chart-tall" : "chart" },
      h("div", { class: "chart-head" }, h(heading, { class: "chart-title" }, title), this.legend),
      h("div", { class: "chart-canvas" }, this.canvas, this.note),
      details,
    );
    this.#stopTheme = onThemeChange(() => this.#restyle());
  }

  /**
   * @param {Array<{label: string, points: Array<[number, number|null]>, reference?: boolean}>} lines a reference line (a total) is dashed and grey
   * @param {{fromMs: number, toMs: number, gapMs: number}} window points further apart than gapMs are not joined
   */
  show(lines, window) {
    this.#lines = lines;
    this.#window = window;
    const empty = lines.every((line) => line.points.every(([, value]) => value === null));
    this.note.hidden = !empty;
    if (empty) setText(this.note, `No data in this time`);
    if (this.#chart === null) this.#create();
    this.#apply();
  }

  /** Says why there is nothing to see. */
  fail(message) {
    this.note.hidden = false;
    setText(this.note, message);
  }

  destroy() {
    this.#stopTheme();
    this.#chart?.destroy();
    this.#chart = null;
  }

  #create() {
    const { format, tickFormat } = this;
    this.#chart = new window.Chart(this.canvas, {
      type: "line",
      data: { datasets: [] },
      plugins: [crosshair],
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        parsing: false,
        normalized: true,
        spanGaps: false,
        interaction: { mode: "index", axis: "x", intersect: false },
        elements: { point: { radius: 0, hoverRadius: 3, hitRadius: 8 }, line: { borderWidth: 1.75, tension: 0 } },
        layout: { padding: { top: 4, right: 4, bottom: 0, left: 0 } },
        scales: {
          x: {
            type: "linear",
            bounds: "data",
            border: { display: false },
            afterBuildTicks: (axis) => {
              const { ticks, step } = timeTicks(axis.min, axis.max, Math.max(2, Math.floor(axis.width / 76)));
              axis.ticks = ticks.map((value) => ({ value }));
              axis.tickStep = step;
            },
            ticks: {
              autoSkip: false,
              maxRotation: 0,
              callback(value) {
                return this.tickStep >= 86_400 ? formatDateTime(value).slice(5, 10) : formatClock(value, this.tickStep < 60);
              },
            },
          },
          y: {
            beginAtZero: true,
            border: { display: false },
            ticks: { maxTicksLimit: 7, callback: (value) => tickFormat(value) },
            afterFit: (axis) => {
              // One width for all charts: the time axes of charts above each other line up.
              axis.width = Math.max(axis.width, 68);
            },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            caretSize: 0,
            displayColors: true,
            boxWidth: 8,
            boxHeight: 8,
            filter: (item) => item.parsed.y !== null,
            callbacks: {
              title: (items) => (items.length > 0 ? formatDateTime(items[0].parsed.x) : ""),
              label: (item) => ` ${item.dataset.label}: ${format(item.parsed.y)}`,
            },
          },
        },
      },
    });
  }

  #restyle() {
    if (this.#chart !== null) this.#apply();
  }

  #apply() {
    const colours = chartColours();
    const chart = this.#chart;
    const { fromMs, toMs, gapMs } = this.#window;
    const alone = this.#lines.filter((line) => !line.reference).length === 1;
    let colourIndex = 0;
    chart.data.datasets = this.#lines.map((line) => {
      const colour = line.reference ? colours.text : colours.lines[colourIndex++ % PALETTE_SIZE];
      const points = withGaps(line.points, gapMs);
      return {
        label: line.label,
        data: points.map(([x, y]) => ({ x, y })),
        borderColor: colour,
        backgroundColor: alone && !line.reference ? colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)") : colour,
        fill: alone && !line.reference ? "origin" : false,
        borderDash: line.reference ? [4, 4] : [],
        // A lone point between gaps has no line to be seen by.
        pointRadius: points.map((point, index) => (point[1] !== null && (points[index - 1]?.[1] ?? null) === null && (points[index + 1]?.[1] ?? null) === null ? 2 : 0)),
      };
    });
    const { x, y } = chart.options.scales;
    x.min = fromMs;
    x.max = toMs;
    x.grid = { color: colours.grid, drawTicks: false };
    y.grid = { color: colours.grid, drawTicks: false };
    y.suggestedMax = this.max ?? undefined;
    const axis = this.binary ? binaryAxis(Math.max(...this.#lines.map((line) => summarize(line.points)?.max ?? 0))) : null;
    y.max = axis?.max;
    y.ticks.stepSize = axis?.step;
    for (const { ticks } of [x, y]) {
      ticks.color = colours.text;
      ticks.padding = 6;
      ticks.font = { size: 11, family: getComputedStyle(document.body).fontFamily };
    }
    chart.options.crosshairColour = colours.border;
    Object.assign(chart.options.plugins.tooltip, {
      backgroundColor: colours.surface,
      titleColor: colours.strong,
      bodyColor: colours.strong,
      borderColor: colours.border,
      borderWidth: 1,
      padding: 8,
    });
    chart.update("none");
    this.#describe(colours);
    this.#drawTable();
  }

  #describe(colours) {
    let colourIndex = 0;
    const parts = [];
    fill(
      this.legend,
      this.#lines.map((line) => {
        const summary = summarize(line.points);
        const swatch = h("span", { class: line.reference ? "swatch swatch-reference" : "swatch", "aria-hidden": "true" });
        swatch.style.borderColor = line.reference ? colours.text : colours.lines[colourIndex++ % PALETTE_SIZE];
        parts.push(summary ? `${line.label} ${this.format(summary.last)}, lowest ${this.format(summary.min)}, highest ${this.format(summary.max)}` : `${line.label} ${NO_DATA}`);
        return h("li", {}, swatch, h("span", { class: "legend-label" }, line.label), h("span", { class: "legend-value" }, summary ? this.format(summary.last) : NO_DATA));
      }),
    );
    this.canvas.setAttribute("aria-label", `${this.title}. ${parts.slice(0, 8).join("; ")}${parts.length > 8 ? `; and ${parts.length - 8} more` : ""}`);
  }

  #drawTable() {
    if (!this.#tableOpen || this.#window === null) return;
    const longest = this.#lines.reduce((best, line) => (line.points.length > best.length ? line.points : best), []);
    const times = thinOut(longest, TABLE_ROWS).map(([at]) => at).reverse();
    const lookups = this.#lines.map((line) => new Map(line.points));
    const caption = longest.length > times.length ? `${times.length} of ${longest.length} points, newest first` : "Newest first";
    fill(
      this.table,
      h(
        "table",
        {},
        h("caption", {}, caption),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), this.#lines.map((line) => h("th", { scope: "col", class: "number" }, line.label)))),
        h(
          "tbody",
          {},
          times.map((at) => h("tr", {}, h("th", { scope: "row" }, formatDateTime(at)), lookups.map((lookup) => h("td", { class: "number" }, this.format(lookup.get(at) ?? null))))),
        ),
      ),
    );
  }
}
