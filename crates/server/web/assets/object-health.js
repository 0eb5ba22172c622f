// What the conditions of a ReportPolicy or CollectorTarget mean, in one word and one sentence. Pure.

/** Conditions whose True is the bad news. */
const TRUE_IS_BAD = new Set(["Degraded", "Conflicting"]);

/** @returns {"good"|"bad"|"warn"|"unknown"} how to show one condition */
export function conditionLevel(condition) {
  const { type, status } = condition;
  if (status !== "True" && status !== "False") return "unknown";
  if (TRUE_IS_BAD.has(type)) return status === "True" ? "warn" : "good";
  return status === "True" ? "good" : "bad";
}

function find(object, type) {
  return (object.conditions ?? []).find((condition) => condition.type === type) ?? null;
}

const ORDER = ["Ready", "Accepted", "Programmed"];

/** Conditions as people look for them: Ready, Accepted, Programmed, then by name. */
export function sortedConditions(object) {
  const rank = (type) => (ORDER.includes(type) ? ORDER.indexOf(type) : ORDER.length);
  return [...(object.conditions ?? [])].sort((a, b) => rank(a.type) - rank(b.type) || a.type.localeCompare(b.type));
}

/**
 * Ready counts only for the generation that it was judged for: the same rule as Argo CD's health script.
 *
 * @returns {{level: "good"|"bad"|"warn"|"unknown", word: string, sentence: string}}
 */
export function objectHealth(object) {
  const ready = find(object, "Ready");
  const accepted = find(object, "Accepted");
  const degraded = find(object, "Degraded");
  const { generation, observedGeneration, activeGeneration } = object;

  if (generation !== null && observedGeneration !== null && observedGeneration < generation) {
    return { level: "unknown", word: "Progressing", sentence: `Generation ${generation} has not been judged yet.` };
  }
  if (accepted?.status === "False") {
    const inForce = activeGeneration ? ` Generation ${activeGeneration} stays in force.` : " Nothing is in force.";
    return { level: "bad", word: "Refused", sentence: `${accepted.message || accepted.reason || "The object was refused"}`.replace(/[^.]$/, "$&.") + inForce };
  }
  if (ready?.status === "False") return { level: "bad", word: "Not ready", sentence: ready.message || ready.reason || "" };
  if (ready?.status === "True") {
    if (degraded?.status === "True") return { level: "warn", word: "Degraded", sentence: degraded.message || degraded.reason || "" };
    return { level: "good", word: "Ready", sentence: ready.message || "" };
  }
  return { level: "unknown", word: ready ? "Progressing" : "Unknown", sentence: ready ? ready.message || ready.reason || "" : "No condition has been written yet." };
}

/** Generations in words: what is wanted, what was judged, what is in force. */
export function generationText(object) {
  const show = (value) => (value === null || value === undefined ? "none" : String(value));
  return {
    generation: show(object.generation),
    observed: show(object.observedGeneration),
    active: show(object.activeGeneration),
    settled: object.generation === object.observedGeneration && object.generation === object.activeGeneration,
  };
}

const LEVEL_ORDER = { bad: 0, warn: 1, unknown: 2, good: 3 };

/** Objects with trouble first, then by kind and name. */
export function byTrouble(objects) {
  return objects
    .map((object) => ({ object, health: objectHealth(object) }))
    .sort(
      (a, b) =>
        LEVEL_ORDER[a.health.level] - LEVEL_ORDER[b.health.level] ||
        b.object.kind.localeCompare(a.object.kind) ||
        a.object.name.localeCompare(b.object.name),
    );
}
