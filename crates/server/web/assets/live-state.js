// The rules by which the page calls itself Live, Stale or Offline. Pure: the clock is an argument.

export const CONNECTING = "connecting";
export const LIVE = "live";
export const STALE = "stale";
export const OFFLINE = "offline";

/** Used until the server has said how often it sends. */
export const DEFAULT_INTERVAL_MS = 5_000;

/** The server pings every 15 s; a socket that missed three of them is dead although nobody closed it. */
export const SILENCE_LIMIT_MS = 45_000;

/**
 * @param {{socketOpen: boolean, everConnected: boolean, lastSnapshotAt: number|null, intervalMs: number, now: number}} facts
 *   times in milliseconds of one monotonic clock
 * @returns {{state: string, ageMs: number|null}}
 */
export function liveState({ socketOpen, everConnected, lastSnapshotAt, intervalMs, now }) {
  const ageMs = lastSnapshotAt === null ? null : Math.max(0, now - lastSnapshotAt);
  if (!socketOpen) return { state: everConnected ? OFFLINE : CONNECTING, ageMs };
  if (ageMs === null) return { state: CONNECTING, ageMs };
  return { state: ageMs <= 2 * intervalMs ? LIVE : STALE, ageMs };
}

/** True once nothing at all, neither snapshot nor ping, came for so long that the socket must be replaced. */
export function isSilent(lastMessageAt, now) {
  return now - lastMessageAt > SILENCE_LIMIT_MS;
}

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 30_000;

/**
 * Delay before the next connection: exponential, with full jitter over its upper half, so that a
 * thousand pages do not come back in the same second after a restart.
 *
 * @param {number} attempt failed attempts so far, from 0
 * @param {number} random from [0, 1)
 */
export function reconnectDelayMs(attempt, random) {
  const ceiling = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(attempt, 16));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
