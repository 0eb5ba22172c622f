// Numbers, sizes and times as text. A value that is not known becomes NO_DATA, never zero.

export const NO_DATA = "no data";

/** True for a finite number. `null`, `undefined`, NaN and infinities are not known values. */
export function isKnown(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** `part / whole` in percent, or null where one of them is not known or the whole is not positive. */
export function ratioPercent(part, whole) {
  if (!isKnown(part) || !isKnown(whole) || whole <= 0) return null;
  return (part / whole) * 100;
}

export function formatPercent(value, digits = 1) {
  return isKnown(value) ? `${value.toFixed(digits)} %` : NO_DATA;
}

const BINARY_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** Three significant figures are enough to see a change and few enough to read. */
function threeFigures(value) {
  const magnitude = Math.abs(value);
  if (magnitude >= 100) return value.toFixed(0);
  if (magnitude >= 10) return value.toFixed(1);
  return value.toFixed(2);
}

/** Bytes in powers of 1024, three significant figures: `1.50 GiB`. */
export function formatBytes(value) {
  if (!isKnown(value)) return NO_DATA;
  let scaled = value;
  let unit = 0;
  // 1023.5 would be shown as "1024"; the next unit begins before that.
  while (Math.abs(scaled) >= 999.5 && unit < BINARY_UNITS.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(scaled)} B` : `${threeFigures(scaled)} ${BINARY_UNITS[unit]}`;
}

/** For an axis whose ticks are whole numbers of a unit: `2 GiB`. */
export function formatBytesTick(value) {
  return formatBytes(value).replace(/\.0+ /, " ");
}

export function formatBytesPerSecond(value) {
  return isKnown(value) ? `${formatBytes(value)}/s` : NO_DATA;
}

const DECIMAL_UNITS = ["", " k", " M", " G", " T"];

/** A count in powers of 1000: `12.3 k`. Whole numbers below 10,000 are shown in full. */
export function formatCount(value) {
  if (!isKnown(value)) return NO_DATA;
  if (Math.abs(value) < 10_000) {
    return Number.isInteger(value) ? groupDigits(value) : threeFigures(value);
  }
  let scaled = value;
  let unit = 0;
  while (Math.abs(scaled) >= 999.5 && unit < DECIMAL_UNITS.length - 1) {
    scaled /= 1000;
    unit += 1;
  }
  return `${threeFigures(scaled)}${DECIMAL_UNITS[unit]}`;
}

/** All digits, in groups of three. */
export function groupDigits(value) {
  return isKnown(value) ? value.toLocaleString("en-US", { maximumFractionDigits: 3 }) : NO_DATA;
}

export function formatLoad(value) {
  return isKnown(value) ? value.toFixed(2) : NO_DATA;
}

/** Seconds that a person measures: `0.012` -> `12 ms`, `3.4` -> `3.40 s`. */
export function formatSeconds(value) {
  if (!isKnown(value)) return NO_DATA;
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return `${threeFigures(value)} s`;
}

const SPANS = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
];

/** A length of time in its two largest units: `3 d 4 h`, `59 s`. */
export function formatSpan(seconds) {
  if (!isKnown(seconds)) return NO_DATA;
  const whole = Math.max(0, Math.floor(seconds));
  const first = SPANS.findIndex(([, size]) => whole >= size);
  if (first === -1) return "0 s";
  const [unit, size] = SPANS[first];
  const count = Math.floor(whole / size);
  const next = SPANS[first + 1];
  const rest = next ? Math.floor((whole - count * size) / next[1]) : 0;
  return rest > 0 ? `${count} ${unit} ${rest} ${next[0]}` : `${count} ${unit}`;
}

/** Age of `atMs` seen from `nowMs`, both of the same clock. */
export function formatAge(atMs, nowMs) {
  if (!isKnown(atMs) || !isKnown(nowMs)) return NO_DATA;
  return `${formatSpan((nowMs - atMs) / 1000)} ago`;
}

function two(value) {
  return String(value).padStart(2, "0");
}

/** Local time of day. */
export function formatClock(ms, withSeconds = true) {
  if (!isKnown(ms)) return NO_DATA;
  const date = new Date(ms);
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return withSeconds ? `${minutes}:${two(date.getSeconds())}` : minutes;
}

/** Local date and time, sortable: `2026-03-01 14:05:09`. */
export function formatDateTime(ms) {
  if (!isKnown(ms)) return NO_DATA;
  const date = new Date(ms);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${formatClock(ms)}`;
}

/** RFC 3339 text as local date and time; what does not parse is shown as it came. */
export function formatTimestamp(text) {
  if (text === null || text === undefined || text === "") return NO_DATA;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? String(text) : formatDateTime(ms);
}

/** A PromQL sample value for a table: the server's own text, long fractions shortened. */
export function formatSample(text) {
  const value = Number(text);
  if (!Number.isFinite(value)) return String(text);
  if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? groupDigits(value) : String(text);
  return Number(value.toPrecision(8)).toString();
}

/** A number on a chart's axis or in its legend, any magnitude. */
export function formatPlain(value) {
  if (!isKnown(value)) return NO_DATA;
  const magnitude = Math.abs(value);
  if (magnitude >= 10_000) return formatCount(value);
  if (magnitude !== 0 && magnitude < 0.001) return value.toExponential(1);
  return Number(value.toPrecision(4)).toString();
}

/** A message of the server's, which by its house style begins small and ends without a stop, as a sentence. */
export function sentence(text) {
  if (!text) return "";
  const first = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
