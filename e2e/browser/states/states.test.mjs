// States of the page that a real server reaches rarely, on made-up data. What the product does is proven in ../server.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startFakeServer } from "../fake-server/server.mjs";
import * as pictures from "../fixtures/overview.mjs";
import { axeViolations, launch, openPage, screenshot, sidewaysOverflow } from "../lib/browser.mjs";

describe("the page in rare states", { timeout: 240_000 }, () => {
  let browser;
  let server;
  before(async () => {
    browser = await launch();
    server = await startFakeServer({ signedIn: true });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  /** Opens `hash` on `state`, and afterwards demands: no violation, nothing sticking out, nothing in the notebook. */
  async function look(name, { state = pictures.overview, hash = "#/overview", size = "desktop", scheme = "light", ready, act }) {
    server.setState(state);
    const { page, context, problems, expect } = await openPage(browser, server.url, { size, scheme });
    try {
      await page.goto(`/${hash}`);
      await page.locator("#live[data-state=live]").waitFor();
      if (ready) await page.getByText(ready).first().waitFor();
      if (act) await act(page, expect);
      assert.deepEqual(await axeViolations(page), []);
      assert.ok((await sidewaysOverflow(page)) <= 0, "the page must not scroll sideways");
      await screenshot(page, `state-${name}`, { fullPage: false });
      assert.deepEqual(problems, []);
    } finally {
      await context.close();
    }
  }

  test("what is not known is shown as no data and never as zero", () =>
    look("unknown", {
      state: pictures.unknown,
      size: "phone",
      async act(page) {
        const row = page.locator(".nodes tbody tr");
        await row.waitFor();
        const values = await row.locator(".value").allTextContents();
        assert.ok(values.length >= 9);
        assert.deepEqual([...new Set(values)], ["no data"]);
        assert.doesNotMatch(await page.locator("main").innerText(), /(^|\s)0( ?(B|KiB|%|s|\/s)|$)/m);
        assert.match(await page.locator(".tiles").innerText(), /Samples stored\s+no data/);
      },
    }));

  test("an empty system says what to do next", () => look("empty", { state: pictures.empty, ready: "A CollectorTarget of type Node makes an agent run on each." }));

  test("a node that went silent is marked although the page is live", () =>
    look("trouble", {
      state: pictures.trouble,
      scheme: "dark",
      async act(page) {
        assert.equal(await page.locator('.nodes tr[data-fresh="false"]').count(), 1);
        await page.getByText("1 without fresh samples").waitFor();
        await page.getByText("Generation 2 stays in force.").waitFor();
      },
    }));

  test("names at their limits break and do not push", () => look("long-names-phone", { state: pictures.longNames, size: "phone", scheme: "dark" }));
  test("names at their limits on a wide screen", () => look("long-names-desktop", { state: pictures.longNames, hash: "#/targets" }));

  test("a thousand targets are paged, filtered by keyboard, and cheap to update", () =>
    look("thousand-targets", {
      state: pictures.many,
      hash: "#/targets",
      async act(page) {
        const rows = page.locator(".targets tbody tr");
        await rows.nth(99).waitFor();
        assert.equal(await rows.count(), 100);
        await page.getByRole("button", { name: "Show 100 more of 900" }).click();
        assert.equal(await rows.count(), 200);
        await page.getByLabel("Filter").fill("timeout");
        assert.equal(await rows.count(), 20);
        await page.getByRole("button", { name: "Down", exact: true }).focus();
        await page.keyboard.press("Enter");
        await page.getByText("20 of 1,000 targets").waitFor();
        await page.getByText("250 more are scraped").waitFor();
      },
    }));

  test("two hundred nodes can be ordered by what matters, and one is chosen", () =>
    look("many-nodes", {
      state: pictures.many,
      async act(page) {
        await page.getByLabel("Order by").selectOption("cpu");
        assert.equal(await page.locator(".nodes .node-button").first().innerText(), "node-200");
        await page.locator(".nodes .node-button").first().click();
        await page.getByRole("heading", { name: "History of node-200" }).waitFor();
      },
    }));

  test("text from outside is never markup", () =>
    look("markup", {
      state: () => pictures.overview({ nodes: [pictures.node('<img src=x onerror="alert(1)">')], targets: [pictures.target({ up: false, reason: "<script>alert(1)</script>" })] }),
      async act(page) {
        await page.getByText("<script>alert(1)</script>").first().waitFor();
        assert.equal(await page.locator("main img, main script").count(), 0);
      },
    }));

  test("a graph with more series than can be drawn says so and lists all", () =>
    look("many-series", {
      hash: "#/query?expr=many&mode=graph&range=1h",
      async act(page) {
        await page.getByText("The graph shows the first 40 of 120 series").waitFor();
        await page.getByText("120 series in").waitFor();
      },
    }));

  test("a chart has a table with the same values", () =>
    look("chart-table", {
      async act(page) {
        const summary = page.locator(".chart-table summary").first();
        await summary.focus();
        await page.keyboard.press("Enter");
        await page.locator(".chart-table").first().locator("tbody tr").nth(10).waitFor();
      },
    }));

  test("messages that stop make the page stale, a lost socket makes it offline, and both end by themselves", () =>
    look("resumed", {
      async act(page, expect) {
        expect(/WebSocket connection|ERR_CONNECTION|net::ERR/);
        server.pause();
        await page.locator("#live[data-state=stale]").waitFor();
        await page.locator('.nodes [data-label="Last sample"]').first().getByText(/^[4-9] s ago/).waitFor();
        assert.match(await page.locator("#live").innerText(), /Stale.*data \d+ s old/s);
        assert.deepEqual(await axeViolations(page), []);
        await screenshot(page, "state-stale", { fullPage: false });
        server.resume();
        await page.locator("#live[data-state=live]").waitFor();
        server.dropSockets();
        await page.locator("#live[data-state=offline]").waitFor();
        assert.match(await page.locator("#announcer").textContent(), /connection to the server is lost/);
        await page.locator("#live[data-state=live]").waitFor();
        assert.match(await page.locator("#announcer").textContent(), /Live data again/);
      },
    }));

  test("an expired session leads to the log-in and back to the same place", async () => {
    server.setState(pictures.overview);
    const { page, context, expect, problems } = await openPage(browser, server.url);
    expect(/WebSocket connection|status of (401|429)/);
    try {
      await page.goto("/#/query?expr=up&mode=table");
      await page.getByText("series in").waitFor();
      await page.locator("#live[data-state=live]").waitFor();
      server.endSession();
      await page.getByText("Your session has ended.").waitFor();
      await page.getByLabel("User name").fill("admin");
      await page.getByLabel("Password").fill("limited");
      await page.keyboard.press("Enter");
      await page.getByText("Too many attempts. Wait 42 s, then try again.").waitFor();
      assert.match(await page.locator("#submit").innerText(), /Try again in \d+ s/);
      assert.deepEqual(await axeViolations(page), []);
      await screenshot(page, "state-login-limited", { fullPage: false });
      await page.reload();
      await page.getByLabel("User name").fill("admin");
      await page.getByLabel("Password").fill("right");
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByText("series in").waitFor();
      assert.equal(await page.getByLabel("PromQL expression").inputValue(), "up");
      assert.deepEqual(problems, []);
    } finally {
      server.signIn();
      await context.close();
    }
  });

  test("a server that is not there is named, and the page tries again", async () => {
    const { page, context, expect } = await openPage(browser, server.url);
    expect(/./);
    try {
      await page.route("**/ers/v1/session", (route) => route.abort());
      await page.goto("/");
      await page.getByRole("heading", { name: "The server can't be reached" }).waitFor();
      assert.deepEqual(await axeViolations(page), []);
      await page.unroute("**/ers/v1/session");
      await page.getByRole("button", { name: "Try again" }).click();
      await page.locator("#live[data-state=live]").waitFor();
    } finally {
      await context.close();
    }
  });

  test("the colour scheme can be chosen and is kept", async () => {
    server.setState(pictures.overview);
    const { page, context, problems } = await openPage(browser, server.url, { scheme: "light" });
    try {
      await page.goto("/");
      await page.locator("#live[data-state=live]").waitFor();
      const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = await background();
      await page.locator("#theme").click();
      await page.locator("#theme").click();
      assert.match(await page.locator("#theme").getAttribute("aria-label"), /dark/);
      const dark = await background();
      assert.notEqual(dark, light);
      await page.reload();
      assert.equal(await background(), dark);
      assert.deepEqual(problems, []);
    } finally {
      await context.close();
    }
  });

  test("the check for accessibility finds a fault that is put in", async () => {
    const { page, context } = await openPage(browser, server.url);
    try {
      await page.goto("/");
      await page.locator("#live[data-state=live]").waitFor();
      await page.evaluate(() => document.querySelector("main").append(Object.assign(document.createElement("button"), { type: "button" })));
      assert.match((await axeViolations(page)).join("\n"), /button-name/);
    } finally {
      await context.close();
    }
  });
});
