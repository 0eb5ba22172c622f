// Samples stored per second, from a counter in the live messages. Pure.
import { isKnown } from "./format.js";

/** Agents send once per scrape; over a minute the rate is steady, between two messages it jumps between nothing and much. */
const WINDOW_MS = 60_000;
/** Over less than this, one batch more or less decides: no rate is better than a wild one. */
const SHORTEST_SECONDS = 10;

export class IngestRate {
  #seen = [];

  /**
   * @param {number} atMs the server's time
   * @param {number|null} total samples since the server's start
   * @returns {number|null} samples per second over the last minute at most; null until messages of ten seconds told the counter
   */
  add(atMs, total) {
    if (!isKnown(total)) {
      this.#seen = [];
      return null;
    }
    const last = this.#seen.at(-1);
    // The first answer and the first live message may overtake each other; an older one tells nothing new.
    if (!last || atMs > last.atMs) {
      // A smaller counter is a restart: what was before says nothing about now.
      if (last && total < last.total) this.#seen = [];
      this.#seen.push({ atMs, total });
    }
    while (this.#seen.length > 2 && this.#seen[0].atMs < atMs - WINDOW_MS) this.#seen.shift();
    const first = this.#seen[0];
    const newest = this.#seen.at(-1);
    const seconds = (newest.atMs - first.atMs) / 1000;
    return seconds >= SHORTEST_SECONDS ? (newest.total - first.total) / seconds : null;
  }
}
