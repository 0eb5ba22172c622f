import assert from "node:assert/strict";
import { test } from "node:test";
import * as f from "../../../crates/server/web/assets/format.js";

const table = (name, format, rows) =>
  test(name, () => {
    for (const [input, expected] of rows) assert.equal(format(input), expected, `for ${String(input)}`);
  });

test("what is not known is never shown as a number", () => {
  const formats = [f.formatPercent, f.formatBytes, f.formatBytesPerSecond, f.formatCount, f.groupDigits, f.formatLoad, f.formatSeconds, f.formatSpan, f.formatClock, f.formatDateTime, f.formatPlain];
  for (const format of formats) for (const value of [null, undefined, NaN, Infinity]) assert.equal(format(value), "no data", format.name);
  assert.equal(f.formatAge(null, 5), "no data");
  assert.equal(f.formatTimestamp(null), "no data");
});

table("zero is a value", f.formatBytesPerSecond, [[0, "0 B/s"]]);

table("bytes are in powers of 1024 with three figures", f.formatBytes, [
  [0, "0 B"],
  [999, "999 B"],
  [1000, "0.98 KiB"],
  [1024, "1.00 KiB"],
  [1536, "1.50 KiB"],
  [10 * 1024, "10.0 KiB"],
  [1023 * 1024, "1.00 MiB"],
  [457 * 1024 ** 3, "457 GiB"],
  [6 * 1024 ** 4, "6.00 TiB"],
]);

table("counts are in powers of 1000", f.formatCount, [
  [0, "0"],
  [9999, "9,999"],
  [12_345, "12.3 k"],
  [999_600, "1.00 M"],
  [18_223_401, "18.2 M"],
]);

table("spans show their two largest units", f.formatSpan, [
  [0, "0 s"],
  [59.9, "59 s"],
  [60, "1 min"],
  [61, "1 min 1 s"],
  [3_600, "1 h"],
  [1_234_567, "14 d 6 h"],
  [86_400 + 59, "1 d"],
  [-4, "0 s"],
]);

table("seconds of a scrape", f.formatSeconds, [
  [0.0000125, "13 µs"],
  [0.012, "12 ms"],
  [3.4, "3.40 s"],
]);

table("sample values keep what they say", f.formatSample, [
  ["NaN", "NaN"],
  ["+Inf", "+Inf"],
  ["1234567", "1,234,567"],
  ["0.8412345678901", "0.84123457"],
  ["-0.5", "-0.5"],
]);

test("a share of an unknown or empty whole is not known", () => {
  assert.equal(f.ratioPercent(1, 4), 25);
  assert.equal(f.ratioPercent(1, 0), null);
  assert.equal(f.ratioPercent(null, 4), null);
  assert.equal(f.ratioPercent(0, 4), 0);
});

table("a message of the server is shown as a sentence", f.sentence, [
  ["the present password is wrong", "The present password is wrong."],
  ["Wait 3 s.", "Wait 3 s."],
  [undefined, ""],
]);
