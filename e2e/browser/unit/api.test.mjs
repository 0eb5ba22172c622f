import assert from "node:assert/strict";
import { test } from "node:test";
import { Api, retryAfterSeconds } from "../../../crates/server/web/assets/api.js";
import { nodeCharts } from "../../../crates/server/web/assets/history.js";
import { parseRoute, routeHash, safeNext } from "../../../crates/server/web/assets/router.js";

function apiWith(answers) {
  const calls = [];
  let ended = 0;
  const api = new Api({
    fetch: async (address, options) => {
      calls.push({ address, ...options });
      const next = answers.shift();
      if (next instanceof Error) throw next;
      return next;
    },
    onSessionEnded: () => { ended += 1; },
  });
  return { api, calls, ended: () => ended };
}

const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers });
const session = () => json(200, { user: { username: "admin" }, csrfToken: "token-1", expiresAt: "2026-03-01T00:00:00Z" });

test("every change carries the CSRF token and no read does", async () => {
  const { api, calls } = apiWith([session(), json(200, { items: [] }), new Response(null, { status: 204 })]);
  await api.session();
  await api.tokens();
  await api.revokeToken("a/b");
  assert.equal(calls[1].headers["X-CSRF-Token"], undefined);
  assert.equal(calls[2].headers["X-CSRF-Token"], "token-1");
  assert.equal(calls[2].address, "/ers/v1/tokens/a%2Fb");
});

test("a wrong password is not the end of a session, any other 401 is", async () => {
  const wrong = () => json(401, { error: { code: "InvalidCredentials", message: "wrong" } });
  const one = apiWith([wrong(), wrong()]);
  await assert.rejects(one.api.logIn("a", "b"), { code: "InvalidCredentials" });
  await assert.rejects(one.api.changePassword("a", "b"), { code: "InvalidCredentials" });
  assert.equal(one.ended(), 0);
  const other = apiWith([json(401, { error: { code: "Unauthenticated", message: "log in" } }), json(401, { error: { code: "Unauthenticated", message: "log in" } })]);
  await assert.rejects(other.api.overview(), { status: 401 });
  await assert.rejects(other.api.changePassword("a", "b"), { status: 401 });
  assert.equal(other.ended(), 2);
});

test("a limit says how long to wait", async () => {
  const { api } = apiWith([json(429, { error: { code: "RateLimited", message: "too many" } }, { "Retry-After": "42" })]);
  await assert.rejects(api.logIn("a", "b"), { status: 429, retryAfterSeconds: 42 });
  assert.equal(retryAfterSeconds("Sun, 01 Mar 2026 00:00:10 GMT", Date.parse("2026-03-01T00:00:00Z")), 10);
  assert.equal(retryAfterSeconds(null, 0), null);
  assert.equal(retryAfterSeconds("soon", 0), null);
});

test("no answer is told apart from a bad answer", async () => {
  const { api } = apiWith([new TypeError("failed"), new Response("<html>", { status: 502 }), new Response("<html>", { status: 200 })]);
  await assert.rejects(api.overview(), { unreachable: true });
  await assert.rejects(api.overview(), { status: 502, message: "The server answered 502." });
  await assert.rejects(api.overview(), { code: "BadAnswer" });
});

test("Prometheus' errors and warnings come through, and long queries go as a form", async () => {
  const { api, calls } = apiWith([
    json(400, { status: "error", errorType: "bad_data", error: "1:1: parse error" }),
    json(200, { status: "success", data: { resultType: "vector", result: [] }, warnings: ["w"], infos: ["i"] }),
  ]);
  await assert.rejects(api.query("(", null), { message: "1:1: parse error", code: "bad_data" });
  const { warnings } = await api.query("a".repeat(3_000), 5);
  assert.deepEqual(warnings, ["w", "i"]);
  assert.equal(calls[1].method, "POST");
  assert.equal(calls[1].address, "/api/v1/query");
});

test("log-in leads only to a place inside this page", () => {
  assert.equal(safeNext("#/query?expr=up"), "/#/query?expr=up");
  for (const evil of ["//evil.example", "https://evil.example", "javascript:alert(1)", "/\\evil", null]) assert.equal(safeNext(evil), "/");
});

test("routes survive the way there and back", () => {
  const { path, parameters } = parseRoute(routeHash("query", { expr: 'up{a="b&c"} + 1%' }));
  assert.equal(path, "query");
  assert.equal(parameters.get("expr"), 'up{a="b&c"} + 1%');
  assert.equal(parseRoute("").path, "");
});

test("every chart of a node asks only for that node and continues from the live message", () => {
  const { charts, stepSeconds } = nodeCharts('a"b', 3_600, 15_000);
  assert.ok(stepSeconds >= 15);
  for (const chart of charts) {
    for (const line of chart.lines) {
      assert.ok(line.query.includes('node="a\\"b"'), line.query);
      assert.equal(line.live({}), null, "an unknown value stays unknown");
    }
  }
  const rare = nodeCharts("n", 900, 60_000).charts[0].lines[0].query;
  assert.match(rare, /\[240s\]/, "four scrapes fit into a rate");
});

test("a list of tokens is read to its end", async () => {
  const { api, calls } = apiWith([json(200, { items: [{ id: "a" }], nextCursor: "a" }), json(200, { items: [{ id: "b" }], nextCursor: null })]);
  assert.deepEqual(await api.tokens(), [{ id: "a" }, { id: "b" }]);
  assert.equal(calls[1].address, "/ers/v1/tokens?limit=500&cursor=a");
});
