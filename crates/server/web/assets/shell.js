// The frame around each view: navigation, place, the live indicator, log-out.
import { fill, h, icon, setAttribute, setText } from "./dom.js";
import { formatSpan } from "./format.js";
import { CONNECTING, LIVE, OFFLINE, STALE } from "./live-state.js";
import { routeHash } from "./router.js";
import { wireThemeButton } from "./theme.js";

const WORDS = { [CONNECTING]: "Connecting", [LIVE]: "Live", [STALE]: "Stale", [OFFLINE]: "Offline" };

const ANNOUNCEMENTS = {
  [LIVE]: "Live data again.",
  [STALE]: "The data on this page is no longer fresh.",
  [OFFLINE]: "The connection to the server is lost. Trying again.",
};

const byId = (id) => document.getElementById(id);

/** Says something once to screen readers. Only for changes that matter while the user is elsewhere on the page. */
export function announce(text) {
  setText(byId("announcer"), text);
}

export class Shell {
  #links = new Map();
  #lastState = CONNECTING;
  #wasLive = false;

  /** @param {{onLogOut: () => void}} parts */
  constructor({ onLogOut }) {
    wireThemeButton(byId("theme"));
    const logout = byId("logout");
    fill(logout.querySelector(".icon-slot"), icon("logout"));
    logout.addEventListener("click", onLogOut);
    // The target of "Skip to content" is not a route.
    document.querySelector(".skip-link").addEventListener("click", (event) => {
      event.preventDefault();
      byId("main").focus();
    });
  }

  /** @param {Array<{path: string, title: string, icon: string}>} views those that this user may open */
  addViews(views) {
    for (const view of views) {
      const link = h("a", { href: routeHash(view.path) }, icon(view.icon), h("span", {}, view.title));
      this.#links.set(view.path, link);
      byId("nav").append(h("li", {}, link));
    }
  }

  showUser(user) {
    byId("logout").title = `Logged in as ${user.username}`;
    byId("logout").setAttribute("aria-label", `Log out ${user.username}`);
  }

  showServer(server) {
    const place = byId("place");
    const text = [server.cluster, server.namespace, server.policy].filter(Boolean).join(" / ");
    setText(place, text);
    setAttribute(place, "title", `Cluster, namespace and ReportPolicy. ERS ${server.version}, ${server.mode}`);
  }

  select(path) {
    for (const [key, link] of this.#links) setAttribute(link, "aria-current", key === path ? "page" : null);
  }

  /** @param {{state: string, ageMs: number|null, retryInMs: number|null}} live */
  showLive({ state, ageMs, retryInMs }) {
    const indicator = byId("live");
    setAttribute(indicator, "data-state", state);
    setText(byId("live-word"), WORDS[state]);
    const parts = [];
    if (state !== LIVE && ageMs !== null) parts.push(`data ${formatSpan(ageMs / 1000)} old`);
    if (state === OFFLINE && retryInMs !== null && retryInMs >= 1_000) parts.push(`retry in ${formatSpan(retryInMs / 1000)}`);
    setText(byId("live-detail"), parts.join(", "));
    setAttribute(document.body, "data-live", state);
    if (state !== this.#lastState) {
      if (state !== LIVE || this.#wasLive) announce(ANNOUNCEMENTS[state] ?? "");
      if (state === LIVE) this.#wasLive = true;
      this.#lastState = state;
    }
  }
}
