// All nodes with their live values; one of them is selected for the charts below.
import { h, keyed, meter, setAttribute, setText } from "../dom.js";
import { formatAge, formatBytes, formatBytesPerSecond, formatLoad, formatPercent, formatSpan, isKnown, NO_DATA, ratioPercent } from "../format.js";

/** A node whose last sample is older than this is not live, whatever the socket says. */
const SHORTEST_FRESH_MS = 90_000;
/** Intervals of a scrape that fit: one may be lost, and a batch takes its way. */
const FRESH_INTERVALS = 2.5;
const PAGE_SIZE = 50;

const COLUMNS = ["Node", "CPU", "Memory", "Load 1, 5, 15 min", "Disk I/O", "File systems", "Network", "Running for", "Last sample"];

const ORDERS = {
  name: { title: "name", compare: (a, b) => a.node.localeCompare(b.node, "en", { numeric: true }) },
  cpu: { title: "CPU, busiest first", compare: (a, b) => descending(a.cpuPercent, b.cpuPercent) },
  memory: { title: "memory, fullest first", compare: (a, b) => descending(ratioPercent(a.memoryUsedBytes, a.memoryTotalBytes), ratioPercent(b.memoryUsedBytes, b.memoryTotalBytes)) },
  filesystem: { title: "file systems, fullest first", compare: (a, b) => descending(ratioPercent(a.filesystemUsedBytes, a.filesystemSizeBytes), ratioPercent(b.filesystemUsedBytes, b.filesystemSizeBytes)) },
  age: { title: "last sample, oldest first", compare: (a, b) => (a.lastSampleMs ?? 0) - (b.lastSampleMs ?? 0) },
};

/** Known values first; what is not known goes to the end, not to the place of zero. */
function descending(a, b) {
  if (!isKnown(a)) return isKnown(b) ? 1 : 0;
  return isKnown(b) ? b - a : -1;
}

export function isFresh(node, { generatedAtMs, sampleIntervalMs }) {
  const limit = Math.max(SHORTEST_FRESH_MS, FRESH_INTERVALS * (sampleIntervalMs ?? 0));
  return isKnown(node.lastSampleMs) && generatedAtMs - node.lastSampleMs <= limit;
}

export class NodesTable {
  #rows = new Map();
  #snapshot = null;
  #order = "name";
  #filter = "";
  #limit = PAGE_SIZE;
  #pictureAgeMs = 0;
  selected = null;
  counts = { reporting: 0, silent: 0 };

  /** @param {{selected: string|null, onSelect: (node: string) => void}} parts */
  constructor({ selected, onSelect }) {
    this.selected = selected;
    this.onSelect = onSelect;
    this.body = h("tbody", { role: "rowgroup" });
    this.empty = h("p", { class: "empty" }, "Waiting for the first figures");
    this.more = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.#showMore() });
    this.truncated = h("p", { class: "notice notice-warn", hidden: true });
    this.tools = h(
      "div",
      { class: "tools", hidden: true },
      h("label", {}, h("span", {}, "Filter"), h("input", { type: "search", oninput: (event) => this.#setFilter(event.target.value) })),
      h("label", {}, h("span", {}, "Order by"), h("select", { onchange: (event) => this.#setOrder(event.target.value) }, Object.entries(ORDERS).map(([key, order]) => h("option", { value: key }, order.title)))),
    );
    this.table = h(
      "table",
      { class: "stacking nodes", role: "table", "aria-labelledby": "nodes-title", hidden: true },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, COLUMNS.map((name) => h("th", { scope: "col", role: "columnheader" }, name)))),
      this.body,
    );
    this.element = h(
      "section",
      { class: "panel", "aria-labelledby": "nodes-title" },
      h("div", { class: "panel-head" }, h("h2", { id: "nodes-title" }, "Nodes"), this.tools),
      h("div", { class: "table-scroll live-values" }, this.table),
      this.empty,
      this.more,
      this.truncated,
    );
  }

  update(snapshot) {
    this.#snapshot = snapshot;
    this.#pictureAgeMs = 0;
    const reporting = snapshot.nodes.filter((node) => isFresh(node, snapshot)).length;
    this.counts = { reporting, silent: snapshot.nodes.length - reporting };
    if (!snapshot.nodes.some((node) => node.node === this.selected)) {
      this.selected = [...snapshot.nodes].sort(ORDERS.name.compare)[0]?.node ?? null;
    }
    this.#draw();
  }

  /** Ages go on while no new picture comes: "2 s ago" must not stand for minutes. */
  tick(pictureAgeMs) {
    this.#pictureAgeMs = pictureAgeMs ?? 0;
    for (const row of this.#rows.values()) row.showAge();
  }

  fail(message) {
    this.empty.hidden = false;
    setText(this.empty, message);
  }

  #setFilter(text) {
    this.#filter = text.trim().toLowerCase();
    this.#draw();
  }

  #setOrder(order) {
    this.#order = order;
    this.#draw();
  }

  #showMore() {
    this.#limit += PAGE_SIZE;
    this.#draw();
  }

  #draw() {
    if (this.#snapshot === null) return;
    const { nodes } = this.#snapshot;
    this.tools.hidden = nodes.length < 6;
    const matching = nodes.filter((node) => node.node.toLowerCase().includes(this.#filter)).sort(ORDERS[this.#order].compare);
    const shown = matching.slice(0, this.#limit);
    keyed(this.body, this.#rows, shown, (node) => node.node, (node) => this.#row(node));
    const hidden = matching.length - shown.length;
    const left = this.#snapshot.truncated?.nodes ?? 0;
    this.truncated.hidden = left === 0;
    setText(this.truncated, `This list ends at ${nodes.length} nodes; ${left} more send samples. Query can ask for any of them.`);
    this.more.hidden = hidden <= 0;
    setText(this.more, `Show ${Math.min(hidden, PAGE_SIZE)} more of ${hidden}`);
    this.table.hidden = shown.length === 0;
    this.empty.hidden = shown.length > 0;
    if (shown.length === 0) {
      setText(this.empty, nodes.length === 0 ? "No node has sent samples yet. A CollectorTarget of type Node makes an agent run on each." : "No node matches the filter.");
    }
  }

  #select(node) {
    this.selected = node;
    this.#draw();
    this.onSelect(node);
  }

  #row({ node }) {
    const button = h("button", { type: "button", class: "node-button", onclick: () => this.#select(node) }, node);
    const kernel = h("span", { class: "sub" });
    const bars = { cpu: meter(), memory: meter(), filesystem: meter() };
    const value = () => h("span", { class: "value" });
    const sub = () => h("span", { class: "sub" });
    const rates = (...names) => names.map((name) => h("span", {}, value(), " ", h("span", { class: "value-note" }, name)));
    const cells = { cpu: [value(), sub()], memory: [value(), sub()], load: [value()], disk: rates("read", "write"), filesystem: [value(), sub()], network: rates("in", "out"), uptime: [value()], last: [value()] };
    const cell = (index, parts, bar = null) => h("td", { role: "cell", "data-label": COLUMNS[index] }, h("div", { class: "cell" }, parts, bar?.element));
    const element = h(
      "tr",
      { role: "row" },
      h("th", { scope: "row", role: "rowheader" }, h("div", { class: "cell" }, button, kernel)),
      cell(1, cells.cpu, bars.cpu),
      cell(2, cells.memory, bars.memory),
      cell(3, cells.load),
      cell(4, cells.disk),
      cell(5, cells.filesystem, bars.filesystem),
      cell(6, cells.network),
      cell(7, cells.uptime),
      cell(8, cells.last),
    );
    const show = ([first, second], text, subText = "") => {
      setText(first, text);
      first.classList.toggle("unknown", text === NO_DATA);
      if (second) setText(second, subText);
    };
    const showRates = (lines, values) => lines.forEach((line, index) => show([line.firstChild], formatBytesPerSecond(values[index])));
    let lastSampleMs = null;
    const showAge = () => show(cells.last, formatAge(lastSampleMs, this.#snapshot.generatedAtMs + this.#pictureAgeMs));
    return {
      element,
      showAge,
      update: (n) => {
        lastSampleMs = n.lastSampleMs;
        const fresh = isFresh(n, this.#snapshot);
        setAttribute(element, "data-fresh", String(fresh));
        setAttribute(element, "data-selected", n.node === this.selected ? "true" : null);
        setAttribute(button, "aria-pressed", String(n.node === this.selected));
        setAttribute(button, "title", `Show the history of ${n.node}`);
        setText(kernel, n.kernel ? `Linux ${n.kernel}` : "");
        show(cells.cpu, formatPercent(n.cpuPercent), isKnown(n.cpuCount) ? `${n.cpuCount} ${n.cpuCount === 1 ? "core" : "cores"}` : "");
        bars.cpu.update(n.cpuPercent);
        const memory = ratioPercent(n.memoryUsedBytes, n.memoryTotalBytes);
        show(cells.memory, formatPercent(memory), isKnown(n.memoryUsedBytes) ? `${formatBytes(n.memoryUsedBytes)} of ${formatBytes(n.memoryTotalBytes)}` : "");
        bars.memory.update(memory);
        const loads = [n.load1, n.load5, n.load15];
        show(cells.load, loads.some(isKnown) ? loads.map(formatLoad).join("  ") : NO_DATA);
        showRates(cells.disk, [n.diskReadBytesPerSecond, n.diskWriteBytesPerSecond]);
        const filesystem = ratioPercent(n.filesystemUsedBytes, n.filesystemSizeBytes);
        show(cells.filesystem, formatPercent(filesystem), isKnown(n.filesystemUsedBytes) ? `${formatBytes(n.filesystemUsedBytes)} of ${formatBytes(n.filesystemSizeBytes)}` : "");
        bars.filesystem.update(filesystem);
        showRates(cells.network, [n.networkReceiveBytesPerSecond, n.networkTransmitBytesPerSecond]);
        show(cells.uptime, formatSpan(n.uptimeSeconds));
        showAge();
      },
    };
  }
}
