// Points over time: [milliseconds, value or null], oldest first. Pure.

/** Ranges that the page offers, in seconds. */
export const RANGES = [
  ["15m", 900],
  ["1h", 3_600],
  ["6h", 21_600],
  ["24h", 86_400],
  ["7d", 604_800],
];

/** Steps a person can read from an axis, in seconds. */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];

/** The smallest readable step that keeps `rangeSeconds` at or below `maxPoints`, at least `minimum`. */
export function chooseStep(rangeSeconds, maxPoints = 240, minimum = 5) {
  const needed = Math.max(minimum, rangeSeconds / maxPoints);
  return STEPS.find((step) => step >= needed) ?? Math.ceil(needed);
}

/** Values of a Prometheus matrix series: `[seconds, "text"]` -> `[ms, number|null]`. NaN and infinities can't be drawn. */
export function pointsOf(values) {
  return (values ?? []).map(([seconds, text]) => {
    const value = Number(text);
    return [Math.round(seconds * 1000), Number.isFinite(value) ? value : null];
  });
}

/** Puts a null between points that are further apart than `limitMs`, so that an outage is a gap and not a line. */
export function withGaps(points, limitMs) {
  const result = [];
  for (let index = 0; index < points.length; index += 1) {
    const previous = points[index - 1];
    const point = points[index];
    if (previous && point[0] - previous[0] > limitMs) result.push([previous[0] + 1, null]);
    result.push(point);
  }
  return result;
}

/**
 * Appends a live point in place and drops what is older than `windowMs` before it. A point that is not newer
 * than the last one is the same measurement again and is left out.
 */
export function appendPoint(points, point, windowMs) {
  const last = points.at(-1);
  if (last && point[0] <= last[0]) return points;
  points.push(point);
  const oldest = point[0] - windowMs;
  let drop = 0;
  while (drop < points.length && points[drop][0] < oldest) drop += 1;
  if (drop > 0) points.splice(0, drop);
  return points;
}

/** Every n-th point so that at most `limit` remain; first and last stay. */
export function thinOut(points, limit) {
  if (points.length <= limit) return points.slice();
  const stride = (points.length - 1) / (limit - 1);
  return Array.from({ length: limit }, (_, index) => points[Math.round(index * stride)]);
}

/** Smallest, largest and last known value; null when there is none. */
export function summarize(points) {
  const known = points.filter(([, value]) => value !== null);
  if (known.length === 0) return null;
  let min = known[0][1];
  let max = known[0][1];
  for (const [, value] of known) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return { min, max, last: known.at(-1)[1] };
}

/** Times for an axis: multiples of a readable step in local time, at most `limit` of them. */
export function timeTicks(minMs, maxMs, limit = 6) {
  const span = (maxMs - minMs) / 1000;
  if (!(span > 0)) return { ticks: [], step: 0 };
  const step = STEPS.find((candidate) => span / candidate <= limit) ?? Math.ceil(span / limit);
  const stepMs = step * 1000;
  const offsetMs = new Date(minMs).getTimezoneOffset() * 60_000;
  const ticks = [];
  for (let at = Math.ceil((minMs - offsetMs) / stepMs) * stepMs + offsetMs; at <= maxMs; at += stepMs) ticks.push(at);
  return { ticks, step };
}

/** Labels of a series as Prometheus writes them: `up{job="a"}`. */
export function seriesName(metric) {
  const { __name__: name = "", ...labels } = metric;
  const body = Object.entries(labels)
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join(", ");
  if (body === "") return name === "" ? "{}" : name;
  return `${name}{${body}}`;
}

/**
 * Top and step of an axis for bytes: at most five steps of 1, 2 or 5 times a power of 1024 (and its tens and hundreds),
 * so that ticks read "2 GiB" and not "1.86 GiB". Null without a value above zero.
 */
export function binaryAxis(highest) {
  if (!(highest > 0)) return null;
  const unit = 1024 ** Math.max(0, Math.floor(Math.log2(highest / 4) / 10));
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 256, 512, 1024].map((factor) => factor * unit).find((candidate) => highest / candidate <= 5);
  return { max: Math.ceil(highest / step) * step, step };
}

/**
 * Where a chart begins: at the start of the range, or where the data begins if that is later. A system that runs for
 * five minutes would else show an empty hour with a scratch at its end. At least `shortestMs` stay.
 *
 * @returns {{fromMs: number, firstMs: number|null}} the axis' start, and the time of the first known value
 */
export function chartStart(lines, rangeStartMs, toMs, shortestMs = 300_000) {
  let firstMs = null;
  for (const points of lines) {
    const known = points.find(([, value]) => value !== null);
    if (known && (firstMs === null || known[0] < firstMs)) firstMs = known[0];
  }
  return { fromMs: Math.max(rangeStartMs, Math.min(firstMs ?? rangeStartMs, toMs - shortestMs)), firstMs };
}
