// Policies and targets as declared: what is wanted, what was judged, what is in force, and each condition.
import { fill, h, pill, setText } from "../dom.js";
import { formatBytes, formatSpan, formatTimestamp, groupDigits, sentence } from "../format.js";
import { byTrouble, conditionLevel, generationText, sortedConditions } from "../object-health.js";

/** Units that end a field's name become part of the value: `timeoutSeconds: 5` reads "Timeout 5 s". */
const UNITS = [
  ["Seconds", formatSpan],
  ["Bytes", formatBytes],
  ["Days", (days) => (days === 1 ? "1 day" : `${days} days`)],
];

/** `maxSeries` -> `Max series`: the field's own name stays recognizable. */
export function specFact(name, value) {
  const unit = typeof value === "number" ? UNITS.find(([suffix]) => name.endsWith(suffix)) : undefined;
  const bare = unit ? name.slice(0, -unit[0].length) : name;
  const words = bare.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase().replace(/\btls\b/, "TLS");
  const text = unit ? unit[1](value) : typeof value === "number" ? groupDigits(value) : Array.isArray(value) ? value.join(", ") : String(value);
  return [words[0].toUpperCase() + words.slice(1), text];
}

function specFacts(spec) {
  const facts = Object.entries(spec ?? {})
    .filter(([, value]) => value !== null && value.length !== 0)
    .map(([name, value]) => specFact(name, value));
  if (facts.length === 0) return null;
  return h("dl", { class: "facts facts-inline" }, facts.map(([title, text]) => h("div", {}, h("dt", {}, title), h("dd", {}, text))));
}

function generations(object) {
  const { generation, observed, active, settled } = generationText(object);
  const item = (label, value, differs) => h("div", { class: differs ? "differs" : null }, h("dt", {}, label), h("dd", {}, value));
  return h("dl", { class: settled ? "generations" : "generations unsettled" }, item("Generation", generation, false), item("Judged", observed, observed !== generation), item("In force", active, active !== generation));
}

function conditionRow(condition) {
  return h(
    "tr",
    { role: "row" },
    h("th", { scope: "row", role: "rowheader" }, condition.type),
    h("td", { role: "cell", "data-label": "Status" }, h("div", { class: "cell" }, pill(conditionLevel(condition), condition.status))),
    h("td", { role: "cell", "data-label": "Reason" }, h("div", { class: "cell" }, condition.reason ?? "")),
    h("td", { role: "cell", "data-label": "Message", class: "message" }, h("div", { class: "cell" }, sentence(condition.message))),
    h("td", { role: "cell", "data-label": "Since" }, h("div", { class: "cell nowrap" }, formatTimestamp(condition.lastTransitionTime))),
  );
}

function card({ object, health }, spec) {
  const title = `${object.kind}-${object.namespace}-${object.name}`;
  return h(
    "section",
    { class: "panel object", "aria-labelledby": title },
    h(
      "div",
      { class: "panel-head object-head" },
      h("h2", { id: title }, h("span", { class: "object-kind" }, object.kind), " ", h("span", { class: "object-name" }, `${object.namespace}/${object.name}`)),
      pill(health.level, health.word),
    ),
    h("div", { class: "object-summary" }, health.sentence && h("p", { class: "object-sentence" }, sentence(health.sentence)), generations(object), specFacts(spec)),
    h(
      "div",
      { class: "table-scroll" },
      h(
        "table",
        { class: "stacking conditions", role: "table", "aria-label": `Conditions of ${object.name}` },
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ["Condition", "Status", "Reason", "Message", "Since"].map((name) => h("th", { scope: "col", role: "columnheader" }, name)))),
        h("tbody", { role: "rowgroup" }, sortedConditions(object).map(conditionRow)),
      ),
    ),
  );
}

export function resourcesView(container, context) {
  const list = h("div", { class: "objects" });
  const note = h("p", { class: "notice notice-warn", hidden: true });
  fill(container, note, list);
  const abort = new AbortController();
  const specs = new Map();
  let shown = null;
  let specsFor = null;
  const keyOf = (object) => `${object.kind}/${object.namespace}/${object.name}`;

  /** The summaries of the specs are not part of the live message; they are fetched when a generation changes. */
  async function loadSpecs(objects) {
    const wanted = JSON.stringify(objects.map((object) => [keyOf(object), object.generation]));
    if (wanted === specsFor) return;
    specsFor = wanted;
    try {
      const answer = await context.api.objects(abort.signal);
      specs.clear();
      for (const item of answer.items) specs.set(keyOf(item), item.spec);
      note.hidden = true;
      draw(context.snapshot?.objects ?? answer.items, true);
    } catch (failure) {
      if (abort.signal.aborted) return;
      specsFor = null;
      note.hidden = false;
      setText(note, `The settings of the resources could not be read. ${sentence(failure.message)}`);
    }
  }

  function draw(objects, force = false) {
    const key = JSON.stringify(objects);
    if (key === shown && !force) return;
    shown = key;
    if (objects.length === 0) {
      fill(list, h("p", { class: "panel empty" }, "No ReportPolicy or CollectorTarget is known yet."));
      return;
    }
    fill(list, byTrouble(objects).map((entry) => card(entry, specs.get(keyOf(entry.object)))));
  }

  if (context.snapshot === null) loadSpecs([]);
  return {
    update(snapshot) {
      draw(snapshot.objects);
      loadSpecs(snapshot.objects);
    },
    unmount: () => abort.abort(),
  };
}
