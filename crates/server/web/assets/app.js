// Start: session, frame, live feed, and the view that the address names.
import { Api } from "./api.js";
import { fill, h } from "./dom.js";
import { LiveFeed } from "./live.js";
import { CONNECTING, LIVE } from "./live-state.js";
import { parseRoute, routeHash } from "./router.js";
import { Shell } from "./shell.js";
import { accessView } from "./views/access.js";
import { auditView } from "./views/audit.js";
import { overviewView } from "./views/overview.js";
import { forgetQueries, queryView } from "./views/query.js";
import { resourcesView } from "./views/resources.js";
import { targetsView } from "./views/targets.js";

const VIEWS = [
  { path: "overview", title: "Overview", icon: "overview", view: overviewView },
  { path: "targets", title: "Targets", icon: "targets", view: targetsView },
  { path: "resources", title: "Resources", icon: "resources", view: resourcesView },
  { path: "query", title: "Query", icon: "query", view: queryView },
  { path: "access", title: "Access", icon: "access", view: accessView },
  { path: "audit", title: "Audit", icon: "audit", view: auditView, adminOnly: true },
];

const main = document.getElementById("main");
let leaving = false;

function toLogin(reason) {
  if (leaving) return;
  leaving = true;
  const parameters = new URLSearchParams({ reason });
  if (reason === "expired" && location.hash.startsWith("#/")) parameters.set("next", location.hash);
  location.replace(`/login?${parameters}`);
}

const api = new Api({ onSessionEnded: () => toLogin("expired") });

/** What each view may read: the last picture, how fresh it is, and who is looking. */
const context = { api, user: null, session: null, snapshot: null, live: { state: CONNECTING, ageMs: null, retryInMs: null }, navigate };
let mounted = null;
let views = [];

function navigate(path, parameters = {}) {
  location.hash = routeHash(path, parameters);
}

function showRoute(isFirst) {
  const { path, parameters } = parseRoute(location.hash);
  const entry = views.find((candidate) => candidate.path === path) ?? views[0];
  if (mounted?.entry === entry) {
    mounted.instance.route?.(parameters);
    return;
  }
  mounted?.instance.unmount?.();
  const heading = h("h1", { tabindex: "-1" }, entry.title);
  const body = h("div", { class: `view view-${entry.path}` });
  fill(main, heading, body);
  document.title = `${entry.title} · ERS`;
  shell.select(entry.path);
  mounted = { entry, instance: entry.view(body, context, parameters) };
  if (context.snapshot !== null) mounted.instance.update?.(context.snapshot);
  // After a change of view the keyboard and the screen reader begin at its heading, as after a page load.
  if (!isFirst) {
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

const shell = new Shell({
  async onLogOut() {
    try {
      await api.logOut();
    } catch (failure) {
      if (failure.status !== 401) {
        shellFailure(`Logging out failed: ${failure.message}`);
        return;
      }
    }
    forgetQueries();
    toLogin("logout");
  },
});

function shellFailure(message) {
  main.querySelector(":scope > .shell-failure")?.remove();
  main.prepend(h("p", { class: "notice notice-bad shell-failure", role: "alert" }, message));
}

const feed = new LiveFeed({
  connect: () => new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ers/v1/live`),
  onSnapshot(snapshot) {
    context.snapshot = snapshot;
    shell.showServer(snapshot.server);
    mounted?.instance.update?.(snapshot);
  },
  onState(live) {
    const before = context.live.state;
    context.live = live;
    shell.showLive(live);
    mounted?.instance.tick?.(live);
    if (live.state === LIVE && before !== LIVE) mounted?.instance.resumed?.();
  },
  async checkSession() {
    await api.session();
  },
  onSessionEnded: () => toLogin("expired"),
});

async function start() {
  try {
    context.session = await api.session();
  } catch (failure) {
    if (failure.status === 401) return;
    fill(
      main,
      h("h1", {}, "The server can't be reached"),
      h("p", {}, failure.message),
      h("p", {}, h("button", { type: "button", class: "button button-primary", onclick: () => location.reload() }, "Try again")),
    );
    // The page is useless until then; coming back by itself saves somebody a walk to the screen.
    setTimeout(() => location.reload(), 10_000);
    return;
  }
  context.user = context.session.user;
  views = VIEWS.filter((view) => !view.adminOnly || context.user.role === "admin");
  shell.addViews(views);
  shell.showUser(context.user);
  addEventListener("hashchange", () => showRoute(false));
  addEventListener("online", () => feed.retryNow());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) feed.retryNow();
  });
  showRoute(true);
  feed.start();
}

start();
