import assert from "node:assert/strict";
import { test } from "node:test";
import { IngestRate } from "../../../crates/server/web/assets/ingest-rate.js";
import { appendPoint, binaryAxis, chartStart, chooseStep, pointsOf, seriesName, summarize, thinOut, timeTicks, withGaps } from "../../../crates/server/web/assets/series.js";

test("an outage becomes a gap and not a line", () => {
  const points = [[0, 1], [1_000, 2], [9_000, 3]];
  assert.deepEqual(withGaps(points, 2_000), [[0, 1], [1_000, 2], [1_001, null], [9_000, 3]]);
  assert.deepEqual(withGaps(points, 8_000), points);
});

test("the same measurement is not appended twice, and old points leave", () => {
  const points = [[0, 1], [1_000, 2]];
  appendPoint(points, [1_000, 5], 10_000);
  assert.deepEqual(points, [[0, 1], [1_000, 2]]);
  appendPoint(points, [11_500, 3], 11_000);
  assert.deepEqual(points, [[1_000, 2], [11_500, 3]]);
});

test("values that can't be drawn are gaps", () => {
  assert.deepEqual(pointsOf([[1.5, "2"], [2.5, "NaN"], [3.5, "+Inf"]]), [[1_500, 2], [2_500, null], [3_500, null]]);
  assert.deepEqual(pointsOf(undefined), []);
});

test("steps are readable and keep the number of points", () => {
  assert.equal(chooseStep(3_600, 240), 15);
  assert.equal(chooseStep(604_800, 240), 3_600);
  assert.equal(chooseStep(10, 240), 5);
});

test("thinning keeps the first and the last point", () => {
  const points = Array.from({ length: 1_000 }, (_, index) => [index, index]);
  const thin = thinOut(points, 60);
  assert.equal(thin.length, 60);
  assert.deepEqual(thin[0], [0, 0]);
  assert.deepEqual(thin.at(-1), [999, 999]);
  assert.deepEqual(thinOut(points.slice(0, 3), 60), points.slice(0, 3));
});

test("a summary of nothing is nothing", () => {
  assert.equal(summarize([[0, null]]), null);
  assert.deepEqual(summarize([[0, 3], [1, null], [2, 1], [3, null]]), { min: 1, max: 3, last: 1 });
});

test("ticks are multiples of a readable step", () => {
  const { ticks, step } = timeTicks(1_000_123, 1_000_123 + 3_600_000, 6);
  assert.equal(step, 600);
  assert.ok(ticks.length >= 5 && ticks.length <= 7);
  for (const tick of ticks) assert.equal((tick / 1000) % 600, 0);
  assert.deepEqual(timeTicks(5, 5).ticks, []);
});

test("series are named as Prometheus names them", () => {
  assert.equal(seriesName({ __name__: "up", job: 'a"b' }), 'up{job="a\\"b"}');
  assert.equal(seriesName({ __name__: "up" }), "up");
  assert.equal(seriesName({}), "{}");
  assert.equal(seriesName({ job: "a" }), '{job="a"}');
});

test("axes for bytes have whole ticks", () => {
  const GIB = 1024 ** 3;
  assert.deepEqual(binaryAxis(31.2 * GIB), { max: 40 * GIB, step: 10 * GIB });
  assert.deepEqual(binaryAxis(3.9 * 1024 ** 2), { max: 4 * 1024 ** 2, step: 1024 ** 2 });
  assert.equal(binaryAxis(0), null);
  for (let highest = 1; highest < 1e15; highest *= 1.7) {
    const { max, step } = binaryAxis(highest);
    assert.ok(max >= highest && max / step <= 6 && Number.isInteger(max / step), String(highest));
  }
});

test("the rate of ingestion is known after ten seconds and starts anew after a restart", () => {
  const rate = new IngestRate();
  assert.equal(rate.add(0, 1_000), null);
  assert.equal(rate.add(5_000, 1_900), null, "one batch more or less would decide");
  assert.equal(rate.add(10_000, 2_000), 100);
  assert.equal(rate.add(10_000, 2_000), 100, "the same message again changes nothing");
  assert.equal(rate.add(7_000, 1_500), 100, "nor does an older one that was overtaken");
  for (let second = 15; second <= 120; second += 5) rate.add(second * 1000, 2_000);
  assert.equal(rate.add(125_000, 8_000), 100, "only the last minute counts");
  assert.equal(rate.add(130_000, 50), null);
  assert.equal(rate.add(140_000, 150), 10);
  assert.equal(rate.add(141_000, null), null);
  assert.equal(rate.add(145_000, 100), null);
});

test("a chart begins with its data when that is younger than the range", () => {
  const now = 10_000_000;
  const start = (...lines) => chartStart(lines, now - 3_600_000, now);
  assert.deepEqual(start([[now - 400_000, 1]], [[now - 600_000, null], [now - 500_000, 2]]), { fromMs: now - 500_000, firstMs: now - 500_000 });
  assert.equal(start([[now - 9_000_000, 1]]).fromMs, now - 3_600_000);
  assert.deepEqual(start([[now - 1_000, 1]]), { fromMs: now - 300_000, firstMs: now - 1_000 }, "at least five minutes");
  assert.deepEqual(start(), { fromMs: now - 3_600_000, firstMs: null });
});
