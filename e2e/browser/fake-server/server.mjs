// Serves the page's own files with made-up data, for states that a real server reaches rarely and for work on the page.
// Proofs of the product run against the real server (see ../server). Loopback only.
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocketServer } from "ws";
import { overview } from "../fixtures/overview.mjs";

const WEB = fileURLToPath(new URL("../../../crates/server/web/", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".md": "text/plain" };
const POLICY = "default-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

function fileOf(path) {
  if (path === "/") return "index.html";
  if (path === "/login") return "login.html";
  return path.startsWith("/assets/") ? normalize(path.slice(1)) : null;
}

/** A wave that looks like a machine at work; one value per step, the same for the same time. */
function wave(seconds, scale) {
  return scale * (0.5 + 0.3 * Math.sin(seconds / 700) + 0.12 * Math.sin(seconds / 97) + 0.08 * Math.sin(seconds / 13));
}

function rangeAnswer(parameters) {
  const [start, end, step] = ["start", "end", "step"].map((name) => Number(parameters.get(name)));
  const query = parameters.get("query");
  const scale = query.includes("bytes_total") ? 4e6 : query.includes("MemTotal") && !query.includes("Available") ? 3.3e10 : query.includes("Mem") ? 1.9e10 : query.includes("load") ? 3 : 60;
  const flat = query.startsWith("sum(node_memory_MemTotal") && !query.includes("Available");
  const values = [];
  for (let at = start; at <= end; at += step) {
    // A quarter of an hour without data: the page must show a gap.
    if (at > end - 2_400 && at < end - 1_500 && end - start >= 3_600) continue;
    values.push([at, String(flat ? scale : wave(at, scale))]);
  }
  const series = query === "many" ? 120 : 1;
  return { resultType: "matrix", result: Array.from({ length: series }, (_, index) => ({ metric: { __name__: "demo_metric", instance: `worker-${index + 1}`, job: "host" }, values })) };
}

/**
 * @param {{state?: () => object, role?: string}} [options]
 * @returns {Promise<{url: string, setState: (state: () => object) => void, pause: () => void, resume: () => void, dropSockets: () => void, endSession: () => void, setHook: (hook: Function|null) => void, close: () => Promise<void>}>}
 */
export async function startFakeServer({ state = overview, role = "admin", port = 0, signedIn = false } = {}) {
  let current = state;
  let paused = false;
  let session = signedIn;
  let hook = null;
  let tokens = [{ id: "t1", name: "grafana", scopes: ["read"], createdAt: "2026-02-01T10:00:00Z", expiresAt: null, lastUsedAt: "2026-03-01T10:00:00Z" }];
  const sessionAnswer = () => ({ user: { id: "u1", username: "admin", role }, csrfToken: "csrf", expiresAt: new Date(Date.now() + 3.6e6).toISOString() });

  const answer = (response, status, body, headers = {}) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(body === null ? undefined : JSON.stringify(body));
  };
  const refuse = (response, status, code, message, headers) => answer(response, status, { error: { code, message }, requestId: "r1" }, headers);

  const routes = {
    "GET /ers/v1/session": (_, response) => answer(response, 200, sessionAnswer()),
    "POST /ers/v1/session": (request, response) => {
      if (request.body.password === "limited") return refuse(response, 429, "RateLimited", "too many attempts", { "Retry-After": "42" });
      if (request.body.password !== "right") return refuse(response, 401, "InvalidCredentials", "user name or password is wrong");
      session = true;
      answer(response, 200, sessionAnswer());
    },
    "DELETE /ers/v1/session": (_, response) => {
      session = false;
      answer(response, 204, null);
    },
    "GET /ers/v1/overview": (_, response) => answer(response, 200, current()),
    "GET /ers/v1/objects": (_, response) => answer(response, 200, { items: current().objects.map((object) => ({ ...object, spec: object.kind === "ReportPolicy" ? { storage: "Embedded", retentionDays: 15, size: "10Gi" } : { type: "Node", intervalSeconds: 15, sources: ["HostMetrics", "Kubelet"] } })) }),
    "GET /ers/v1/tokens": (_, response) => answer(response, 200, { items: tokens }),
    "POST /ers/v1/tokens": (request, response) => {
      const token = { id: `t${tokens.length + 1}`, name: request.body.name, scopes: request.body.scopes, createdAt: new Date().toISOString(), expiresAt: null, lastUsedAt: null };
      tokens = [...tokens, token];
      answer(response, 201, { ...token, secret: "ers_0123456789abcdef0123456789abcdef" });
    },
    "POST /ers/v1/password": (_, response) => answer(response, 204, null),
    "GET /ers/v1/audit": (_, response) => answer(response, 200, { items: Array.from({ length: 12 }, (_, index) => ({ id: `e${index}`, at: "2026-03-01T10:00:00Z", actor: "admin", action: index % 3 ? "LogIn" : "CreateToken", resource: "session", outcome: index % 5 === 4 ? "Denied" : "Allowed", sourceAddress: "10.0.0.7", requestId: `r${index}`, detail: { userAgent: "Mozilla/5.0" } })), nextCursor: null }),
    "GET /api/v1/label/__name__/values": (_, response) => answer(response, 200, { status: "success", data: ["node_load1", "node_cpu_seconds_total", "up"] }),
    "GET /api/v1/query_range": (request, response) => answer(response, 200, { status: "success", data: rangeAnswer(request.parameters) }),
    "GET /api/v1/query": (request, response) => answer(response, 200, { status: "success", data: { resultType: "vector", result: rangeAnswer(new URLSearchParams({ query: request.parameters.get("query"), start: 0, end: 0, step: 1 })).result.map(({ metric }) => ({ metric, value: [1_772_000_000, "0.8412345678901"] })) } }),
  };

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://loopback");
    request.parameters = url.searchParams;
    response.setHeader("Content-Security-Policy", POLICY);
    const file = fileOf(url.pathname);
    if (file !== null) {
      try {
        statSync(join(WEB, file));
      } catch {
        return answer(response, 404, null);
      }
      response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream", "Cache-Control": "no-cache" });
      return createReadStream(join(WEB, file)).pipe(response);
    }
    let text = "";
    for await (const chunk of request) text += chunk;
    request.body = text.startsWith("{") ? JSON.parse(text) : null;
    if (hook?.(request, response, url) === true) return undefined;
    const login = request.method === "POST" && url.pathname === "/ers/v1/session";
    if (!session && !login) return refuse(response, 401, "Unauthenticated", "log in first");
    if (request.method === "DELETE" && url.pathname.startsWith("/ers/v1/tokens/")) {
      tokens = tokens.filter(({ id }) => id !== url.pathname.split("/").at(-1));
      return answer(response, 204, null);
    }
    const route = routes[`${request.method} ${url.pathname}`];
    return route ? route(request, response) : refuse(response, 404, "NotFound", "no such address");
  });

  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    if (!session) return socket.destroy();
    return sockets.handleUpgrade(request, socket, head, (ws) => ws.send(JSON.stringify({ type: "snapshot", ...current() })));
  });
  const timer = setInterval(() => {
    if (paused) return;
    for (const ws of sockets.clients) ws.send(JSON.stringify({ type: "snapshot", ...current() }));
  }, 1_000);

  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    setState: (next) => { current = next; },
    setHook: (next) => { hook = next; },
    pause: () => { paused = true; },
    resume: () => { paused = false; },
    signIn: () => { session = true; },
    endSession: () => {
      session = false;
      for (const ws of sockets.clients) ws.close(4401);
    },
    dropSockets: () => { for (const ws of sockets.clients) ws.terminate(); },
    close: () => {
      clearInterval(timer);
      for (const ws of sockets.clients) ws.terminate();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await startFakeServer({ port: Number(process.env.PORT ?? 8088), signedIn: true });
  console.log(`page with made-up data: ${url}`);
}
