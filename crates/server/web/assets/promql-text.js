// What the query box knows of PromQL's text: strings, durations and the place of an error. Pure.

/** A PromQL string literal. Double-quoted PromQL strings have the escapes of JSON for all that a label can hold. */
export function quote(text) {
  return JSON.stringify(String(text));
}

const DURATION_UNITS = { ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400, w: 604_800, y: 31_536_000 };

/** Seconds of a duration like `90s`, `1h30m`, or a plain number of seconds; null when it is neither. */
export function parseDuration(text) {
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Number(trimmed) > 0 ? Number(trimmed) : null;
  if (!/^(\d+(ms|[smhdwy]))+$/.test(trimmed)) return null;
  let seconds = 0;
  for (const [, count, unit] of trimmed.matchAll(/(\d+)(ms|[smhdwy])/g)) seconds += Number(count) * DURATION_UNITS[unit];
  return seconds > 0 ? seconds : null;
}

/**
 * Where a parser's message points in the query, as an index into the text, or null when it names no place.
 * Messages say `<line>:<column>`, both from 1; the column counts bytes of UTF-8, as Prometheus' does.
 */
export function errorIndex(message, query) {
  const match = /(?:^|[^\d.])(\d+):(\d+):/.exec(message);
  if (!match) return null;
  const lines = query.split("\n");
  const line = Number(match[1]) - 1;
  if (line < 0 || line >= lines.length) return null;
  const before = lines.slice(0, line).reduce((sum, text) => sum + text.length + 1, 0);
  return before + indexOfByte(lines[line], Number(match[2]) - 1);
}

function indexOfByte(text, byte) {
  const encoder = new TextEncoder();
  let bytes = 0;
  let index = 0;
  for (const character of text) {
    if (bytes >= byte) break;
    bytes += encoder.encode(character).length;
    index += character.length;
  }
  return index;
}

/**
 * The query cut around the place of an error: the marked part is the word or sign that stands there, or
 * nothing when the query ends too early.
 */
export function cutAtError(query, index) {
  const rest = query.slice(index);
  const word = /^[A-Za-z0-9_:]+/.exec(rest)?.[0] ?? rest.slice(0, rest.codePointAt(0) > 0xffff ? 2 : 1);
  return { before: query.slice(0, index), marked: word, after: rest.slice(word.length) };
}

/** A message without the wrapping that repeats what the page shows anyway. */
export function plainError(message) {
  return message.replace(/^invalid parameter "query": /, "");
}

const HISTORY_LIMIT = 30;

/** The history with `query` first, without its older copy, at most 30 long. */
export function rememberQuery(history, query) {
  const text = query.trim();
  if (text === "") return history;
  return [text, ...history.filter((entry) => entry !== text)].slice(0, HISTORY_LIMIT);
}
