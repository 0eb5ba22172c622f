import assert from "node:assert/strict";
import { test } from "node:test";
import { cutAtError, errorIndex, parseDuration, plainError, quote, rememberQuery } from "../../../crates/server/web/assets/promql-text.js";

test("the place of an error is found by line and column", () => {
  assert.equal(errorIndex('invalid parameter "query": 1:9: parse error: unexpected "b"', "sum(a)  b"), 8);
  assert.equal(errorIndex("2:3: parse error: unexpected end", "sum(\n  "), 7);
  assert.equal(errorIndex("execution: too many samples", "up"), null);
  assert.equal(errorIndex("9:1: parse error", "up"), null);
});

test("columns count bytes, as the parser does", () => {
  assert.equal(errorIndex("1:11: parse error: x", 'a{b="é"} c'), 9);
});

test("the marked part is the word at the place, or nothing at the end", () => {
  assert.deepEqual(cutAtError("sum(a) by", 7), { before: "sum(a) ", marked: "by", after: "" });
  assert.deepEqual(cutAtError("a + )", 4), { before: "a + ", marked: ")", after: "" });
  assert.deepEqual(cutAtError("sum(", 4), { before: "sum(", marked: "", after: "" });
});

test("durations are Prometheus' or plain seconds", () => {
  assert.equal(parseDuration("90s"), 90);
  assert.equal(parseDuration(" 1h30m "), 5_400);
  assert.equal(parseDuration("15"), 15);
  for (const wrong of ["", "h", "1 h", "-5m", "0", "0s", "5x"]) assert.equal(parseDuration(wrong), null, wrong);
});

test("names from outside can't break out of a query", () => {
  assert.equal(quote('a"} or up{b="'), '"a\\"} or up{b=\\""');
});

test("the history has each query once, newest first", () => {
  assert.deepEqual(rememberQuery(["a", "b"], " b "), ["b", "a"]);
  assert.deepEqual(rememberQuery(["a"], "  "), ["a"]);
  assert.equal(rememberQuery(Array.from({ length: 30 }, (_, index) => `q${index}`), "new").length, 30);
});

test("a message is shown without its wrapping", () => {
  assert.equal(plainError('invalid parameter "query": 1:2: parse error: x'), "1:2: parse error: x");
});
