// The first picture: figures of the whole, the nodes, the past of one node, what is in trouble, the storage.
import { fill, h, pill, setAttribute, setText } from "../dom.js";
import { formatBytes, formatCount, formatSpan, groupDigits, isKnown, NO_DATA, sentence } from "../format.js";
import { IngestRate } from "../ingest-rate.js";
import { byTrouble } from "../object-health.js";
import { routeHash } from "../router.js";
import { NodeHistory } from "./node-history.js";
import { NodesTable } from "./nodes-table.js";

const LISTED_PROBLEMS = 6;

function tile(label, href = null) {
  const value = h("p", { class: "tile-value" }, NO_DATA);
  const note = h("p", { class: "tile-note" });
  const name = href ? h("a", { href }, label) : label;
  const element = h("li", { class: "tile" }, h("h3", { class: "tile-label" }, name), value, note);
  return {
    element,
    show(text, noteText, level = null) {
      setText(value, text);
      setText(note, noteText);
      setAttribute(element, "data-level", level);
    },
  };
}

export function overviewView(container, context, parameters) {
  const tiles = {
    nodes: tile("Nodes"),
    targets: tile("Targets up", routeHash("targets")),
    resources: tile("Resources ready", routeHash("resources")),
    ingest: tile("Samples stored"),
    series: tile("Active series"),
    bytes: tile("On disk"),
  };
  const problems = h("div", { class: "panel-body" });
  const attention = h("section", { class: "panel attention", "aria-labelledby": "trouble-title", hidden: true }, h("div", { class: "panel-head" }, h("h2", { id: "trouble-title" }, "Needs attention")), problems);
  const storage = h("dl", { class: "facts facts-columns" });
  const history = new NodeHistory(context);
  const nodes = new NodesTable({
    selected: parameters.get("node"),
    onSelect: (node) => history.select(node),
  });

  fill(
    container,
    h("section", { "aria-labelledby": "figures-title" }, h("h2", { id: "figures-title", class: "visually-hidden" }, "Figures"), h("ul", { class: "tiles" }, Object.values(tiles).map((each) => each.element))),
    attention,
    nodes.element,
    history.element,
    h("section", { class: "panel", "aria-labelledby": "storage-title" }, h("div", { class: "panel-head" }, h("h2", { id: "storage-title" }, "Storage and server")), storage),
  );

  // The first figures come by request: a socket that is refused by a proxy must not leave an empty page.
  const abort = new AbortController();
  const ingestRate = new IngestRate();
  if (context.snapshot === null) {
    context.api.overview(abort.signal).then(
      (snapshot) => {
        if (context.snapshot === null) show(snapshot);
      },
      (failure) => {
        if (!abort.signal.aborted) nodes.fail(sentence(failure.message));
      },
    );
  }

  function show(snapshot) {
    nodes.update(snapshot);
    history.update(snapshot, nodes.selected);
    showTiles(snapshot);
    showProblems(snapshot);
    showStorage(snapshot.storage ?? {});
  }

  function showTiles(snapshot) {
    const { reporting, silent } = nodes.counts;
    const more = snapshot.truncated ?? { nodes: 0, targets: 0 };
    tiles.nodes.show(groupDigits(snapshot.nodes.length + more.nodes), silent > 0 ? `${silent} without fresh samples` : reporting > 0 ? "all report" : "none reports yet", silent > 0 ? "warn" : null);
    const up = snapshot.targets.filter((target) => target.up === true).length;
    const down = snapshot.targets.filter((target) => target.up === false).length;
    const unknown = snapshot.targets.length - up - down;
    const targetNote = down > 0 ? `${down} down` : unknown > 0 ? `${unknown} not known yet` : up > 0 ? "all are up" : "none discovered yet";
    tiles.targets.show(snapshot.targets.length === 0 ? "0" : `${groupDigits(up)} / ${groupDigits(snapshot.targets.length)}`, more.targets > 0 ? `${targetNote}; ${groupDigits(more.targets)} not counted` : targetNote, down > 0 ? "bad" : null);
    const judged = byTrouble(snapshot.objects);
    const ready = judged.filter(({ health }) => health.level === "good").length;
    const broken = judged.filter(({ health }) => health.level === "bad").length;
    tiles.resources.show(`${ready} / ${judged.length}`, broken > 0 ? `${broken} not ready` : ready < judged.length ? "some still progress" : "policies and targets", broken > 0 ? "bad" : ready < judged.length ? "warn" : null);
    const facts = snapshot.storage ?? {};
    const rate = ingestRate.add(snapshot.generatedAtMs, facts.samplesIngestedTotal);
    tiles.ingest.show(rate === null ? formatCount(facts.samplesIngestedTotal) : `${formatCount(Math.round(rate))}/s`, rate === null ? "since the start" : `${formatCount(facts.samplesIngestedTotal)} since the start`);
    tiles.series.show(formatCount(facts.activeSeries), "in memory");
    tiles.bytes.show(formatBytes(facts.bytes), isKnown(facts.retentionDays) ? `kept for ${facts.retentionDays} days` : "retention not known");
  }

  function showProblems(snapshot) {
    const down = snapshot.targets.filter((target) => target.up === false);
    const objects = byTrouble(snapshot.objects).filter(({ health }) => health.level !== "good");
    const key = JSON.stringify([down.map((t) => [t.target, t.instance, t.reason]), objects.map(({ object, health }) => [object.kind, object.name, health])]);
    if (key === problems.dataset.key) return;
    problems.dataset.key = key;
    attention.hidden = snapshot.objects.length === 0 && snapshot.targets.length === 0;
    const calm = down.length === 0 && objects.length === 0;
    attention.classList.toggle("attention-calm", calm);
    if (calm) {
      // A target that nobody has scraped yet is neither trouble nor well.
      const unknown = snapshot.targets.some((target) => target.up !== true);
      fill(problems, h("p", { class: "calm" }, pill("good", "Nothing"), unknown ? " No target is down." : " Every target is up and every resource is ready."));
      return;
    }
    const rows = [
      ...objects.map(({ object, health }) =>
        h("li", {}, pill(health.level, health.word), h("div", {}, h("p", { class: "problem-name" }, h("a", { href: routeHash("resources") }, `${object.kind} ${object.name}`)), h("p", { class: "problem-text" }, sentence(health.sentence)))),
      ),
      ...down.map((target) =>
        h("li", {}, pill("bad", "Down"), h("div", {}, h("p", { class: "problem-name" }, h("a", { href: routeHash("targets", { state: "down" }) }, target.instance), " ", h("span", { class: "muted" }, `${target.target} · ${target.job}`)), h("p", { class: "problem-text" }, target.reason ?? "no reason was given"))),
      ),
    ];
    const more = rows.length - LISTED_PROBLEMS;
    fill(problems, h("ul", { class: "problems" }, rows.slice(0, LISTED_PROBLEMS)), more > 0 && h("p", { class: "muted" }, `and ${more} more in `, h("a", { href: routeHash("targets", { state: "down" }) }, "Targets"), " and ", h("a", { href: routeHash("resources") }, "Resources")));
  }

  const storageValues = new Map();
  function showStorage(facts) {
    const entries = [
      ["Active series", groupDigits(facts.activeSeries)],
      ["Samples stored since start", groupDigits(facts.samplesIngestedTotal)],
      ["Data on disk", formatBytes(facts.bytes)],
      ["Write-ahead log", formatBytes(facts.walBytes)],
      ["Segments", groupDigits(facts.segments)],
      ["Retention", isKnown(facts.retentionDays) ? `${facts.retentionDays} days` : NO_DATA],
      ["Serves", context.snapshot ? [context.snapshot.server.cluster, context.snapshot.server.namespace, context.snapshot.server.policy].filter(Boolean).join(" / ") : NO_DATA],
      ["Server", context.snapshot ? `${context.snapshot.server.version}, ${context.snapshot.server.mode}` : NO_DATA],
      ["Live figures every", context.snapshot && isKnown(context.snapshot.intervalMs) ? formatSpan(context.snapshot.intervalMs / 1000) : NO_DATA],
    ];
    for (const [label, text] of entries) {
      if (!storageValues.has(label)) {
        const value = h("dd", {});
        storageValues.set(label, value);
        storage.append(h("div", {}, h("dt", {}, label), value));
      }
      setText(storageValues.get(label), text);
    }
  }

  return {
    update: show,
    tick: (live) => nodes.tick(live.ageMs),
    resumed: () => history.reload(),
    unmount() {
      abort.abort();
      history.destroy();
    },
  };
}
