import assert from "node:assert/strict";
import { test } from "node:test";
import { LiveFeed } from "../../../crates/server/web/assets/live.js";
import { liveState, reconnectDelayMs } from "../../../crates/server/web/assets/live-state.js";

const facts = (changes) => ({ socketOpen: true, everConnected: true, lastSnapshotAt: 0, intervalMs: 1_000, now: 0, ...changes });

test("live means a message within two intervals, and not a moment longer", () => {
  assert.equal(liveState(facts({ now: 2_000 })).state, "live");
  assert.equal(liveState(facts({ now: 2_001 })).state, "stale");
});

test("a closed socket is offline however fresh the data is", () => {
  assert.deepEqual(liveState(facts({ socketOpen: false, now: 10 })), { state: "offline", ageMs: 10 });
});

test("before the first message nothing is claimed", () => {
  assert.equal(liveState(facts({ lastSnapshotAt: null })).state, "connecting");
  assert.equal(liveState(facts({ socketOpen: false, everConnected: false, lastSnapshotAt: null })).state, "connecting");
});

test("delays grow to half a minute and are spread", () => {
  assert.deepEqual([0, 1, 2].map((attempt) => reconnectDelayMs(attempt, 0)), [250, 500, 1_000]);
  assert.equal(reconnectDelayMs(0, 0.999), 500);
  assert.equal(reconnectDelayMs(50, 0), 15_000);
  assert.ok(reconnectDelayMs(50, 0.9999) <= 30_000);
});

/** A feed on a hand-moved clock with sockets that do what the test says. */
function feedUnderTest() {
  const world = { now: 0, sockets: [], states: [], snapshots: [], sessionChecks: 0, sessionEnded: 0, timers: new Map(), nextId: 1 };
  const add = (callback, delay, every) => {
    world.timers.set(world.nextId, { callback, at: world.now + delay, every });
    return world.nextId++;
  };
  const timers = {
    setTimeout: (callback, delay) => add(callback, delay, null),
    setInterval: (callback, delay) => add(callback, delay, delay),
    clearTimeout: (id) => world.timers.delete(id),
    clearInterval: (id) => world.timers.delete(id),
  };
  world.advance = (ms) => {
    const until = world.now + ms;
    for (;;) {
      const due = [...world.timers].filter(([, timer]) => timer.at <= until).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      const [id, timer] = due;
      world.now = timer.at;
      if (timer.every === null) world.timers.delete(id);
      else timer.at += timer.every;
      timer.callback();
    }
    world.now = until;
  };
  world.feed = new LiveFeed({
    connect: () => {
      const socket = { closed: false, close() { this.closed = true; } };
      world.sockets.push(socket);
      return socket;
    },
    onSnapshot: (snapshot) => world.snapshots.push(snapshot),
    onState: ({ state }) => { if (world.states.at(-1) !== state) world.states.push(state); },
    checkSession: async () => { world.sessionChecks += 1; },
    onSessionEnded: () => { world.sessionEnded += 1; },
    now: () => world.now,
    random: () => 0,
    timers,
  });
  world.socket = () => world.sockets.at(-1);
  world.snapshot = (body = {}) => world.socket().onmessage({ data: JSON.stringify({ type: "snapshot", intervalMs: 1_000, ...body }) });
  world.ping = () => world.socket().onmessage({ data: '{"type":"ping"}' });
  world.feed.start();
  return world;
}

test("a feed goes from connecting over live and stale to live again", () => {
  const world = feedUnderTest();
  world.socket().onopen();
  world.snapshot();
  world.advance(4_000);
  world.snapshot();
  assert.deepEqual(world.states, ["connecting", "live", "stale", "live"]);
});

test("pings keep the socket but do not make old data fresh", () => {
  const world = feedUnderTest();
  world.socket().onopen();
  world.snapshot();
  for (let round = 0; round < 6; round += 1) {
    world.advance(15_000);
    world.ping();
  }
  assert.equal(world.sockets.length, 1);
  assert.equal(world.states.at(-1), "stale");
});

test("a silent socket is replaced", () => {
  const world = feedUnderTest();
  world.socket().onopen();
  world.snapshot();
  world.advance(47_000);
  assert.equal(world.sockets[0].closed, true);
  assert.equal(world.sockets.length, 2);
  assert.ok(world.states.includes("offline"));
});

test("after a lost connection the session is checked and the next socket is tried later and later", () => {
  const world = feedUnderTest();
  for (const delay of [250, 500, 1_000]) {
    const before = world.sockets.length;
    world.socket().onclose({ code: 1006 });
    world.advance(delay - 1);
    assert.equal(world.sockets.length, before);
    world.advance(1);
    assert.equal(world.sockets.length, before + 1);
  }
  assert.equal(world.sessionChecks, 3);
  world.socket().onopen();
  world.snapshot();
  world.socket().onclose({ code: 1001 });
  world.advance(250);
  assert.equal(world.sockets.length, 5, "a snapshot proves the server well and resets the delay");
});

test("an ended session ends the feed", () => {
  const world = feedUnderTest();
  world.socket().onopen();
  world.socket().onclose({ code: 4401 });
  world.advance(60_000);
  assert.equal(world.sessionEnded, 1);
  assert.equal(world.sockets.length, 1);
});

test("a message that can't be read changes nothing", () => {
  const world = feedUnderTest();
  world.socket().onopen();
  world.socket().onmessage({ data: "{" });
  world.socket().onmessage({ data: "null" });
  assert.equal(world.snapshots.length, 0);
  assert.equal(world.states.at(-1), "connecting");
});

test("a network that is back is tried at once", () => {
  const world = feedUnderTest();
  world.socket().onclose({ code: 1006 });
  world.feed.retryNow();
  assert.equal(world.sockets.length, 2);
  world.feed.retryNow();
  assert.equal(world.sockets.length, 2, "one attempt at a time");
});
