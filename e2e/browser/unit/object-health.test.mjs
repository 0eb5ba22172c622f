import assert from "node:assert/strict";
import { test } from "node:test";
import { byTrouble, conditionLevel, generationText, objectHealth, sortedConditions } from "../../../crates/server/web/assets/object-health.js";
import { collector, condition, policy, trouble } from "../fixtures/overview.mjs";

test("ready counts only for the generation that it was judged for", () => {
  assert.equal(objectHealth(policy()).word, "Ready");
  assert.equal(objectHealth(policy({ generation: 3 })).word, "Progressing");
});

test("a refused edit says what stays in force", () => {
  const refused = trouble().objects[1];
  assert.deepEqual(objectHealth(refused), { level: "bad", word: "Refused", sentence: "spec.node.sources[1].kind: Journal needs signals to contain Logs. Generation 2 stays in force." });
  assert.match(objectHealth({ ...refused, activeGeneration: null }).sentence, /Nothing is in force\.$/);
});

test("unknown is never ready", () => {
  assert.equal(objectHealth(collector("a", { conditions: [] })).level, "unknown");
  assert.equal(objectHealth(collector("a", { conditions: [condition("Ready", "Unknown", "Progressing")] })).word, "Progressing");
});

test("degraded is shown although the object is ready", () => {
  assert.equal(objectHealth(trouble().objects[3]).word, "Degraded");
});

test("a condition whose True is bad news is not shown as good", () => {
  assert.equal(conditionLevel(condition("Degraded", "True", "X")), "warn");
  assert.equal(conditionLevel(condition("Degraded", "False", "X")), "good");
  assert.equal(conditionLevel(condition("Ready", "False", "X")), "bad");
  assert.equal(conditionLevel(condition("Ready", "Unknown", "X")), "unknown");
});

test("trouble comes first", () => {
  assert.deepEqual(byTrouble(trouble().objects).map(({ health }) => health.word), ["Not ready", "Refused", "Degraded", "Progressing"]);
});

test("conditions have a fixed order and generations a word for none", () => {
  assert.deepEqual(sortedConditions(policy()).map(({ type }) => type), ["Ready", "Accepted", "Programmed", "Degraded", "Loaded", "SecretsReady", "StorageReady"]);
  assert.deepEqual(generationText(collector("a", { activeGeneration: null })), { generation: "1", observed: "1", active: "none", settled: false });
});
