// The live feed: one WebSocket that is kept alive, replaced when it is dead, and honest about its age.
import { DEFAULT_INTERVAL_MS, isSilent, liveState, reconnectDelayMs } from "./live-state.js";

/** The server closes with this code when the session behind the socket has ended. */
export const SESSION_ENDED = 4401;

export class LiveFeed {
  #socket = null;
  #open = false;
  #everConnected = false;
  #lastSnapshotAt = null;
  #lastMessageAt = 0;
  #intervalMs = DEFAULT_INTERVAL_MS;
  #attempt = 0;
  #retryTimer = null;
  #tickTimer = null;
  #retryAt = null;
  #stopped = false;

  /**
   * @param {object} parts
   * @param {() => WebSocket} parts.connect opens a new socket
   * @param {(snapshot: object) => void} parts.onSnapshot
   * @param {(state: {state: string, ageMs: number|null, retryInMs: number|null}) => void} parts.onState each second and at each change
   * @param {() => Promise<void>} parts.checkSession called after a failed connection: a socket can't tell "logged out" from "down"
   * @param {() => void} parts.onSessionEnded
   * @param {() => number} [parts.now] monotonic milliseconds
   * @param {() => number} [parts.random]
   * @param {{setTimeout: Function, clearTimeout: Function, setInterval: Function, clearInterval: Function}} [parts.timers]
   */
  constructor({ connect, onSnapshot, onState, checkSession, onSessionEnded, now, random, timers }) {
    this.connect = connect;
    this.onSnapshot = onSnapshot;
    this.onState = onState;
    this.checkSession = checkSession;
    this.onSessionEnded = onSessionEnded;
    this.now = now ?? (() => performance.now());
    this.random = random ?? Math.random;
    this.timers = timers ?? {
      setTimeout: (...rest) => setTimeout(...rest),
      clearTimeout: (id) => clearTimeout(id),
      setInterval: (...rest) => setInterval(...rest),
      clearInterval: (id) => clearInterval(id),
    };
  }

  start() {
    this.#tickTimer = this.timers.setInterval(() => this.tick(), 1_000);
    this.#openSocket();
  }

  stop() {
    this.#stopped = true;
    this.timers.clearInterval(this.#tickTimer);
    this.timers.clearTimeout(this.#retryTimer);
    this.#dropSocket();
  }

  /** Called when the browser says that the network is back or the tab is visible again. */
  retryNow() {
    if (this.#open || this.#stopped || this.#retryTimer === null) return;
    this.timers.clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#openSocket();
  }

  tick() {
    if (this.#open && isSilent(this.#lastMessageAt, this.now())) this.#lost();
    this.#report();
  }

  #openSocket() {
    this.#retryAt = null;
    let socket;
    try {
      socket = this.connect();
    } catch {
      this.#scheduleRetry();
      return;
    }
    this.#socket = socket;
    socket.onopen = () => {
      this.#open = true;
      this.#everConnected = true;
      this.#lastMessageAt = this.now();
      this.#report();
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => {
      if (socket !== this.#socket) return;
      if (event.code === SESSION_ENDED) {
        this.stop();
        this.onSessionEnded();
        return;
      }
      this.#lost();
    };
    this.#report();
  }

  #receive(data) {
    this.#lastMessageAt = this.now();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // a message that can't be read makes the data no fresher
    }
    if (message?.type !== "snapshot") return;
    if (Number.isFinite(message.intervalMs) && message.intervalMs > 0) this.#intervalMs = message.intervalMs;
    this.#lastSnapshotAt = this.now();
    // Only a snapshot proves the server well; resetting on open would hammer one that accepts and falls over.
    this.#attempt = 0;
    this.onSnapshot(message);
    this.#report();
  }

  #dropSocket() {
    const socket = this.#socket;
    this.#socket = null;
    this.#open = false;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #lost() {
    this.#dropSocket();
    this.#everConnected = true;
    this.#scheduleRetry();
    // Without an answer this says nothing: the server is down, and the retry goes on.
    this.checkSession().catch(() => {});
  }

  #scheduleRetry() {
    if (this.#stopped) return;
    const delay = reconnectDelayMs(this.#attempt, this.random());
    this.#attempt += 1;
    this.#retryAt = this.now() + delay;
    this.#retryTimer = this.timers.setTimeout(() => {
      this.#retryTimer = null;
      this.#openSocket();
    }, delay);
    this.#report();
  }

  #report() {
    if (this.#stopped) return;
    const now = this.now();
    const state = liveState({
      socketOpen: this.#open,
      everConnected: this.#everConnected,
      lastSnapshotAt: this.#lastSnapshotAt,
      intervalMs: this.#intervalMs,
      now,
    });
    const retryInMs = this.#retryAt === null ? null : Math.max(0, this.#retryAt - now);
    this.onState({ ...state, retryInMs });
  }
}
