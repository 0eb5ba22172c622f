// Addresses inside the page: `#/query?expr=up`. The part after # never reaches the server's logs.

/** @returns {{path: string, parameters: URLSearchParams}} */
export function parseRoute(hash) {
  const text = hash.startsWith("#/") ? hash.slice(2) : "";
  const cut = text.indexOf("?");
  return cut === -1
    ? { path: text, parameters: new URLSearchParams() }
    : { path: text.slice(0, cut), parameters: new URLSearchParams(text.slice(cut + 1)) };
}

export function routeHash(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return `#/${path}${query === "" ? "" : `?${query}`}`;
}

/**
 * Where to go after log-in. Only a place inside this page is accepted, so that a crafted link to the log-in
 * can't send anybody elsewhere.
 */
export function safeNext(next) {
  return next !== null && next.startsWith("#/") ? `/${next}` : "/";
}
