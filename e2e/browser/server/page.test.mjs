// The page on a real server with real agents behind it. One browser session walks through everything, in order.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { after, before, describe, test } from "node:test";
import { SCHEMES, SIZES, axeViolations, eventually, launch, openPage, screenshot, sidewaysOverflow } from "../lib/browser.mjs";
import { baseUrl, call, canControlServer, controlServer, password, user, verifiedKey } from "../lib/server.mjs";

const VIEWS = {
  overview: { hash: "#/overview", ready: ".nodes tbody tr" },
  targets: { hash: "#/targets", ready: ".targets tbody tr" },
  resources: { hash: "#/resources", ready: ".conditions tbody tr" },
  "query-graph": { hash: "#/query?expr=node_load1&mode=graph&range=15m", ready: ".series-table tbody tr" },
  "query-table": { hash: "#/query?expr=up&mode=table", ready: ".series-table tbody tr" },
  access: { hash: "#/access", ready: ".token-form" },
  audit: { hash: "#/audit", ready: "table tbody tr" },
};

/** Chromium reports each refused request in the console; these are refusals that a test asks for. */
const REFUSED = /Failed to load resource: the server responded with a status of (400|401|422|429)/;
const CONNECTION_LOST = /WebSocket connection|net::ERR_|Failed to load resource/;

describe("the page on a real server", { timeout: 600_000 }, () => {
  let browser;
  let view;
  let page;
  const live = (state) => page.locator(`#live[data-state=${state}]`).waitFor({ timeout: 60_000 });

  before(async () => {
    browser = await launch({ trustedKey: await verifiedKey() });
    view = await openPage(browser, baseUrl);
    page = view.page;
  });
  after(async () => {
    await browser?.close();
  });

  test("whoever is not logged in gets the log-in and no data", async () => {
    view.expect(REFUSED);
    for (const path of ["/ers/v1/overview", "/ers/v1/objects", "/ers/v1/tokens", "/ers/v1/audit", "/api/v1/query?query=up"]) {
      assert.equal((await call(path)).status, 401, path);
    }
    await page.goto("/#/targets");
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    assert.match(page.url(), /\/login\?/);
  });

  test("the page comes with a strict policy and keeps to it", async () => {
    for (const path of ["/", "/login", "/assets/app.js", "/assets/app.css"]) {
      const { status, headers } = await call(path);
      assert.equal(status, 200, path);
      assert.match(headers["content-security-policy"], /default-src 'self'/, path);
      assert.doesNotMatch(headers["content-security-policy"], /unsafe|https?:|\*/, path);
      assert.equal(headers["x-content-type-options"], "nosniff", path);
    }
    for (const path of ["/README.md", "/package.json", "/assets/../package.json", "/assets/%2e%2e/package.json", "/assets/none.js"]) assert.notEqual((await call(path)).status, 200, path);
  });

  test("a wrong password is refused in plain words and the field is emptied", async () => {
    await page.getByLabel("User name").fill(user);
    await page.getByLabel("Password").fill("certainly not the password");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByText("User name or password is wrong.").waitFor();
    assert.equal(await page.getByLabel("Password").inputValue(), "");
    assert.equal(await page.evaluate(() => document.activeElement.id), "password");
    assert.deepEqual(await axeViolations(page), []);
    await screenshot(page, "login-wrong-password");
  });

  test("too many attempts are told to wait, and how long", async () => {
    const stranger = `stranger-${randomUUID()}`;
    const button = page.locator("#submit");
    for (let attempt = 0; attempt < 8; attempt += 1) {
      await page.getByLabel("User name").fill(stranger);
      await page.getByLabel("Password").fill("certainly not the password");
      await button.click();
      await page.locator("#error").waitFor();
      await eventually("the answer", async () => !/Logging in/.test(await button.innerText()));
      if (/Too many attempts\. Wait \d+ s/.test(await page.locator("#error").innerText())) break;
    }
    assert.match(await page.locator("#error").innerText(), /Too many attempts\. Wait \d+ s, then try again\./);
    assert.ok(await button.isDisabled());
    await screenshot(page, "login-limited");
  });

  test("log-in by keyboard alone leads to where one wanted to go", async () => {
    await page.goto("/login?reason=expired&next=%23%2Ftargets");
    await page.keyboard.type(user);
    await page.keyboard.press("Tab");
    await page.keyboard.type(password);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Targets", level: 1 }).waitFor();
    await live("live");
    assert.deepEqual(view.problems, []);
  });

  test("the session's cookie can't be read by a script or sent from another site", async () => {
    const cookie = (await view.context.cookies()).find(({ name }) => name === "__Host-ers-session");
    assert.ok(cookie, "the cookie is set");
    assert.deepEqual([cookie.httpOnly, cookie.secure, cookie.sameSite], [true, true, "Strict"]);
    assert.equal(await page.evaluate(() => document.cookie), "");
    const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
    assert.doesNotMatch(kept, new RegExp(cookie.value.slice(0, 16)));
  });

  test("the node on the page is this machine", async () => {
    await page.goto("/#/overview");
    const row = page.locator(".nodes tbody tr").first();
    await row.waitFor();
    await eventually("figures of the node", async () => !/no data/.test(await row.locator('[data-label="CPU"]').innerText()));
    assert.match(await row.innerText(), new RegExp(`Linux ${release().replaceAll(".", "\\.")}`));
    const overview = await page.evaluate(() => fetch("/ers/v1/overview").then((response) => response.json()));
    const total = 1024 * Number(/^MemTotal:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"))[1]);
    assert.equal(overview.nodes[0].memoryTotalBytes, total);
    assert.ok(overview.nodes[0].cpuPercent >= 0 && overview.nodes[0].cpuPercent <= 100);
  });

  test("values change without a reload, and the charts have a past", async () => {
    const figures = () => page.locator(".nodes tbody tr").first().locator(".value").allTextContents();
    const first = (await figures()).slice(0, -1).join("|");
    await eventually("another value", async () => (await figures()).slice(0, -1).join("|") !== first, { withinMs: 60_000 });
    await eventually("a filled chart", async () => /Used \d/.test(await page.locator(".chart canvas").first().getAttribute("aria-label")), { withinMs: 60_000 });
    assert.equal(await page.locator("#live-word").innerText(), "Live");
    assert.deepEqual(view.problems, []);
  });

  test("targets and resources say what they are and why", async () => {
    await page.goto("/#/targets");
    await page.locator(".targets tbody tr").first().waitFor();
    assert.ok((await page.locator(".targets .pill-good").count()) > 0, "some target is up");
    for (const reason of await page.locator(".targets .reason:visible").allTextContents()) assert.notEqual(reason, "");
    await page.goto("/#/resources");
    await page.getByRole("heading", { name: /ReportPolicy/ }).waitFor();
    await page.getByRole("heading", { name: /CollectorTarget/ }).first().waitFor();
    for (const type of ["Ready", "Accepted"]) assert.ok((await page.getByRole("rowheader", { name: type }).count()) > 0, type);
    assert.deepEqual(view.problems, []);
  });

  test("a query gives a table, a graph, and the place of an error", async () => {
    await page.goto("/#/query");
    const editor = page.getByLabel("PromQL expression");
    await editor.fill("count by (job) (up)");
    await page.getByRole("button", { name: "Table" }).click();
    await page.locator(".series-table tbody tr").first().waitFor();
    assert.match(await page.locator(".series-table").innerText(), /job="/);
    await editor.fill("node_memory_MemTotal_bytes");
    await page.getByRole("button", { name: "Graph" }).click();
    await page.locator(".chart-tall canvas").waitFor();
    await eventually("a drawn line", () =>
      page.evaluate(() => {
        const canvas = document.querySelector(".chart-tall canvas");
        return Boolean(canvas) && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value !== 0);
      }),
    );
    await editor.fill("sum(up) by by (job)");
    await editor.press("Control+Enter");
    const failure = page.locator(".query-error");
    await failure.waitFor();
    assert.match(await failure.innerText(), /1:\d+: parse error/);
    assert.equal(await failure.locator("mark").innerText(), "by");
    assert.equal(await editor.getAttribute("aria-invalid"), "true");
    await failure.getByRole("button", { name: "Go to the place" }).click();
    assert.equal(await editor.evaluate((e) => e.value.slice(e.selectionStart, e.selectionEnd)), "by");
    assert.deepEqual(await axeViolations(page), []);
    await screenshot(page, "query-error");
    await editor.press("Alt+ArrowUp");
    assert.equal(await editor.inputValue(), "node_memory_MemTotal_bytes");
    assert.deepEqual(view.problems, []);
  });

  test("everything can be reached and used by keyboard, and the focus is seen", async () => {
    await page.goto("/#/overview");
    await page.reload();
    await live("live");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await page.getByRole("link", { name: "Overview", exact: true }).focus();
    for (let step = 0; step < 3; step += 1) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Query", level: 1 }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid");
    await page.keyboard.type("up");
    await page.keyboard.press("Control+Enter");
    await page.locator(".series-table tbody tr").first().waitFor();
    assert.deepEqual(view.problems, []);
  });

  test("an API token is shown once, works, and is refused after it was revoked", async () => {
    const name = `browser-${randomUUID().slice(0, 8)}`;
    await page.goto("/#/access");
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByRole("button", { name: "Create token" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.waitFor();
    const secret = await dialog.getByLabel("Secret").inputValue();
    assert.match(secret, /^ers_/);
    assert.deepEqual(await axeViolations(page), []);
    const asToken = () => call("/api/v1/query?query=up", { headers: { Authorization: `Bearer ${secret}` } });
    assert.equal((await asToken()).status, 200);
    await dialog.getByRole("button", { name: "I have stored it" }).click();
    await page.getByRole("rowheader", { name }).waitFor();
    assert.ok(!(await page.content()).includes(secret), "the secret is nowhere in the page any more");
    await page.getByRole("button", { name: `Revoke ${name}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
    await page.getByRole("rowheader", { name }).waitFor({ state: "detached" });
    assert.equal((await asToken()).status, 401);
    assert.deepEqual(view.problems, []);
  });

  test("the audit tells of the log-in and of the token", async () => {
    await page.goto("/#/audit");
    await page.locator("table tbody tr").first().waitFor();
    const text = await page.locator("table").innerText();
    assert.match(text, /log-?in|session/i);
    assert.match(text, /token/i);
    assert.doesNotMatch(text, /certainly not the password|ers_[0-9A-Za-z]{8}/);
  });

  test("a reload keeps the session", async () => {
    await page.goto("/#/resources");
    await page.reload();
    await page.getByRole("heading", { name: "Resources", level: 1 }).waitFor();
    await live("live");
    assert.deepEqual(view.problems, []);
  });

  for (const size of Object.keys(SIZES)) {
    for (const scheme of SCHEMES) {
      test(`each view is accessible and fits at ${SIZES[size].width} px, ${scheme}`, async () => {
        const other = await openPage(browser, baseUrl, { size, scheme, storageState: await view.context.storageState() });
        try {
          for (const [name, { hash, ready }] of Object.entries(VIEWS)) {
            await other.page.goto(`/${hash}`);
            await other.page.locator("#live[data-state=live]").waitFor({ timeout: 60_000 });
            await other.page.locator(ready).first().waitFor();
            if (name === "overview") await eventually("filled charts", async () => /\d/.test((await other.page.locator(".chart canvas").last().getAttribute("aria-label")) ?? ""));
            assert.deepEqual(await axeViolations(other.page), [], name);
            assert.ok((await sidewaysOverflow(other.page)) <= 0, `${name} must not scroll sideways`);
            await screenshot(other.page, `${name}-${SIZES[size].width}-${scheme}`);
          }
          assert.deepEqual(other.problems, []);
        } finally {
          await other.context.close();
        }
      });
    }
  }

  test("a server that hangs makes the page stale; when it goes on, the page is live again", { skip: !canControlServer && "ERS_SERVER_HOOK is not set" }, async () => {
    view.expect(CONNECTION_LOST);
    await page.goto("/#/overview");
    await live("live");
    controlServer("pause");
    try {
      await live("stale");
      assert.match(await page.locator("#live").innerText(), /data \d+ s old/);
      assert.equal(await page.evaluate(() => document.body.dataset.live), "stale");
      await screenshot(page, "server-paused-stale", { fullPage: false });
    } finally {
      controlServer("resume");
    }
    await live("live");
  });

  test("a killed server makes the page offline; after its restart the page goes on by itself, logged in", { skip: !canControlServer && "ERS_SERVER_HOOK is not set" }, async () => {
    await page.evaluate(() => { globalThis.notReloaded = true; });
    controlServer("stop");
    try {
      await live("offline");
      await eventually("the age of the data", async () => /data \d+ s old/.test(await page.locator("#live").innerText()));
      await screenshot(page, "server-down-offline", { fullPage: false });
      assert.deepEqual(await axeViolations(page), []);
    } finally {
      controlServer("start");
    }
    await live("live");
    assert.equal(await page.evaluate(() => globalThis.notReloaded), true);
    await eventually("fresh samples of the node", async () => (await page.locator('.nodes tr[data-fresh="true"]').count()) > 0, { withinMs: 90_000 });
  });

  test("log-out ends the session here and on the server", async () => {
    const cookies = await view.context.cookies();
    await page.getByRole("button", { name: /Log out/ }).click();
    await page.getByText("You are logged out.").waitFor();
    const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
    assert.equal((await call("/ers/v1/overview", { headers: { Cookie: cookie } })).status, 401, "the old cookie is worth nothing");
    await page.goto("/#/overview");
    await page.getByRole("heading", { name: "Log in" }).waitFor();
    assert.deepEqual(view.problems, []);
  });
});
