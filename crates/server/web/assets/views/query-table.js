// A query's result as a table: labels in columns of their own when they differ, values as the server wrote them.
import { h, setText } from "../dom.js";
import { formatDateTime, formatSample, groupDigits } from "../format.js";
import { seriesName } from "../series.js";

const PAGE_SIZE = 100;

/** The value to show of a series: of an instant vector its only one, of a matrix its last. Histograms say what they are. */
export function lastSample(series) {
  const [seconds, text] = series.value ?? series.values?.at(-1) ?? [];
  if (seconds !== undefined) return { at: seconds * 1000, text: formatSample(text) };
  const [histogramAt, histogram] = series.histogram ?? series.histograms?.at(-1) ?? [];
  if (histogramAt === undefined) return { at: null, text: "no sample" };
  return { at: histogramAt * 1000, text: `histogram: count ${histogram.count}, sum ${histogram.sum}` };
}

/**
 * @param {{resultType: string, result: unknown}} data as Prometheus' API gives it
 * @param {{colours?: number}} [options] how many rows, from the first, have a line in the graph above
 */
export function resultTable({ resultType, result }, { colours = 0 } = {}) {
  if (resultType === "scalar" || resultType === "string") {
    const [seconds, text] = result;
    return h("dl", { class: "facts" }, h("div", {}, h("dt", {}, resultType === "scalar" ? "Scalar" : "String"), h("dd", {}, resultType === "scalar" ? formatSample(text) : text)), h("div", {}, h("dt", {}, "At"), h("dd", {}, formatDateTime(seconds * 1000))));
  }
  if (result.length === 0) return h("p", { class: "empty" }, "No series at this moment.");
  const isMatrix = resultType === "matrix";
  const body = h("tbody", {});
  const more = h("button", { type: "button", class: "button", hidden: true });
  let shown = 0;
  const showMore = () => {
    const upTo = Math.min(result.length, shown + PAGE_SIZE);
    for (; shown < upTo; shown += 1) body.append(row(result[shown], shown < colours ? shown : null, isMatrix));
    more.hidden = shown === result.length;
    setText(more, `Show ${Math.min(PAGE_SIZE, result.length - shown)} more of ${groupDigits(result.length - shown)}`);
  };
  more.addEventListener("click", showMore);
  showMore();
  const table = h(
    "table",
    { class: "series-table", "aria-label": "Series" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Series"), isMatrix && h("th", { scope: "col", class: "number" }, "Points"), h("th", { scope: "col", class: "number" }, isMatrix ? "Last value" : "Value"))),
    body,
  );
  return h("div", {}, h("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Series, scrollable" }, table), more);
}

function row(series, colour, isMatrix) {
  const sample = lastSample(series);
  const swatch = colour === null ? null : h("span", { class: "swatch", "aria-hidden": "true" });
  if (swatch) swatch.style.borderColor = `var(--chart-${(colour % 8) + 1})`;
  const points = (series.values?.length ?? 0) + (series.histograms?.length ?? 0);
  return h(
    "tr",
    {},
    h("th", { scope: "row", class: "series-name" }, swatch, labelParts(series.metric)),
    isMatrix && h("td", { class: "number" }, groupDigits(points)),
    h("td", { class: "number", title: sample.at === null ? null : formatDateTime(sample.at) }, sample.text),
  );
}

function labelParts(metric) {
  const { __name__: name, ...labels } = metric;
  const entries = Object.entries(labels);
  if (entries.length === 0) return h("span", {}, seriesName(metric));
  return h("span", {}, name && h("b", {}, name), "{", entries.map(([key, value], index) => [index > 0 ? ", " : "", h("span", { class: "label-key" }, key), "=", h("span", { class: "label-value" }, JSON.stringify(value))]), "}");
}
