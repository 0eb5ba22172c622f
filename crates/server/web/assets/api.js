// Requests to the server: one place for the CSRF header, time limits, and errors that say what to do.

const TIME_LIMIT_MS = 30_000;
/** Longer queries go as a form, so that no proxy's limit on the length of an address is met. */
const LONGEST_ADDRESS = 2_000;

export class ApiError extends Error {
  /** @param {{message: string, status: number, code?: string, field?: string|null, retryAfterSeconds?: number|null, requestId?: string|null}} facts */
  constructor({ message, status, code = "Unknown", field = null, retryAfterSeconds = null, requestId = null }) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.field = field;
    this.retryAfterSeconds = retryAfterSeconds;
    this.requestId = requestId;
  }

  /** True when no answer came at all: the server is down, restarting, or the network is gone. */
  get unreachable() {
    return this.status === 0;
  }
}

/** Seconds of a Retry-After header (a number or a date), or null. */
export function retryAfterSeconds(text, nowMs) {
  if (text === null || text === "") return null;
  if (/^\d+$/.test(text)) return Number(text);
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, Math.ceil((at - nowMs) / 1000));
}

export class Api {
  #csrfToken = null;

  /**
   * @param {{fetch?: typeof fetch, onSessionEnded?: () => void, now?: () => number}} [parts]
   */
  constructor({ fetch: fetchFunction, onSessionEnded, now } = {}) {
    this.fetch = fetchFunction ?? ((...rest) => fetch(...rest));
    this.onSessionEnded = onSessionEnded ?? (() => {});
    this.now = now ?? Date.now;
  }

  // --- session ---

  async session() {
    return this.#remember(await this.#json("GET", "/ers/v1/session"));
  }

  async logIn(username, password) {
    return this.#remember(await this.#json("POST", "/ers/v1/session", { body: { username, password }, expectLogin: true }));
  }

  logOut() {
    return this.#json("DELETE", "/ers/v1/session");
  }

  changePassword(current, next) {
    return this.#json("POST", "/ers/v1/password", { body: { current, new: next }, expectLogin: true });
  }

  // --- what the page shows ---

  overview(signal) {
    return this.#json("GET", "/ers/v1/overview", { signal });
  }

  objects(signal) {
    return this.#json("GET", "/ers/v1/objects", { signal });
  }

  /** All tokens: people look for one by name, so all pages of the list are fetched. */
  async tokens(signal) {
    const items = [];
    let cursor = null;
    do {
      const page = await this.#json("GET", `/ers/v1/tokens?${pageQuery(cursor, 500)}`, { signal });
      items.push(...page.items);
      cursor = page.nextCursor ?? null;
    } while (cursor !== null);
    return items;
  }

  createToken(token) {
    return this.#json("POST", "/ers/v1/tokens", { body: token });
  }

  revokeToken(id) {
    return this.#json("DELETE", `/ers/v1/tokens/${encodeURIComponent(id)}`);
  }

  audit({ cursor = null, limit = 50, signal } = {}) {
    return this.#json("GET", `/ers/v1/audit?${pageQuery(cursor, limit)}`, { signal });
  }

  // --- Prometheus' API: the `data` of a success, with the warnings beside it ---

  query(expr, timeSeconds, signal) {
    return this.#prometheus("query", { query: expr, ...(timeSeconds === null ? {} : { time: String(timeSeconds) }) }, signal);
  }

  queryRange(expr, { start, end, step }, signal) {
    return this.#prometheus("query_range", { query: expr, start: String(start), end: String(end), step: String(step) }, signal);
  }

  async metricNames(signal) {
    const { data } = await this.#prometheus("label/__name__/values", null, signal);
    return data;
  }

  // --- the one way out ---

  #remember(session) {
    this.#csrfToken = session.csrfToken;
    return session;
  }

  async #prometheus(path, parameters, signal) {
    const form = parameters === null ? "" : new URLSearchParams(parameters).toString();
    const address = `/api/v1/${path}${form === "" ? "" : `?${form}`}`;
    const answer =
      address.length <= LONGEST_ADDRESS
        ? await this.#json("GET", address, { signal })
        : await this.#json("POST", `/api/v1/${path}`, { form, signal });
    return { data: answer.data, warnings: [...(answer.warnings ?? []), ...(answer.infos ?? [])] };
  }

  async #json(method, address, { body, form, signal, expectLogin = false } = {}) {
    const headers = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (form !== undefined) headers["Content-Type"] = "application/x-www-form-urlencoded";
    if (method !== "GET" && this.#csrfToken !== null) headers["X-CSRF-Token"] = this.#csrfToken;
    const limit = AbortSignal.timeout(TIME_LIMIT_MS);
    let response;
    try {
      response = await this.fetch(address, {
        method,
        headers,
        body: body !== undefined ? JSON.stringify(body) : form,
        credentials: "same-origin",
        cache: "no-store",
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      const message = limit.aborted ? `The server did not answer within ${TIME_LIMIT_MS / 1000} s.` : "The server can't be reached.";
      throw new ApiError({ message, status: 0, code: "Unreachable" });
    }
    if (response.ok) return response.status === 204 ? null : readJson(response);
    const failure = await this.#failure(response);
    // A wrong password is a 401 too; only elsewhere does 401 mean that the session is over.
    if (response.status === 401 && !(expectLogin && failure.code !== "Unauthenticated")) this.onSessionEnded();
    throw failure;
  }

  async #failure(response) {
    let answer = null;
    try {
      answer = await response.json();
    } catch {
      // A proxy's error page: the status is all there is to tell.
    }
    const ours = answer?.error && typeof answer.error === "object" ? answer.error : null;
    const prometheus = typeof answer?.error === "string" ? answer : null;
    return new ApiError({
      message: ours?.message ?? prometheus?.error ?? `The server answered ${response.status}.`,
      status: response.status,
      code: ours?.code ?? prometheus?.errorType ?? "Unknown",
      field: ours?.field ?? null,
      retryAfterSeconds: retryAfterSeconds(response.headers.get("Retry-After"), this.now()),
      requestId: answer?.requestId ?? null,
    });
  }
}

function pageQuery(cursor, limit) {
  return new URLSearchParams({ limit: String(limit), ...(cursor === null ? {} : { cursor }) });
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    throw new ApiError({ message: "The server's answer can't be read.", status: response.status, code: "BadAnswer" });
  }
}
