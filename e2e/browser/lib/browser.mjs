// A real Chromium, watched: each page records console errors, failed and foreign requests.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

export const ARTIFACTS = process.env.ERS_ARTIFACTS ?? fileURLToPath(new URL("../../../artifacts/browser/", import.meta.url));
mkdirSync(ARTIFACTS, { recursive: true });

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"];

export const SIZES = { phone: { width: 390, height: 844 }, desktop: { width: 1440, height: 900 } };
export const SCHEMES = ["light", "dark"];

/**
 * @param {{trustedKey?: string}} [options] base64 SHA-256 of the server's public key: only this one untrusted certificate is accepted
 */
export function launch({ trustedKey } = {}) {
  return chromium.launch({
    executablePath: process.env.ERS_CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: trustedKey ? [...FLAGS, `--ignore-certificate-errors-spki-list=${trustedKey}`] : FLAGS,
  });
}

/**
 * A page with a notebook of what must not happen. `expected` are patterns of console messages that a test causes on purpose.
 *
 * @returns {Promise<{page: import("playwright-core").Page, context: import("playwright-core").BrowserContext, problems: string[], expect: (pattern: RegExp) => void}>}
 */
export async function openPage(browser, baseUrl, { size = "desktop", scheme = "light", storageState } = {}) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: scheme, deviceScaleFactor: 1, reducedMotion: "reduce", baseURL: baseUrl, storageState, timezoneId: "UTC", locale: "en-GB" });
  const page = await context.newPage();
  const problems = [];
  const expected = [];
  const note = (text) => {
    if (!expected.some((pattern) => pattern.test(text))) problems.push(text);
  };
  const home = new URL(baseUrl).host;
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") note(`console ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => note(`page error: ${error.message}`));
  const own = (url) => url.startsWith("data:") || url.startsWith("blob:") || new URL(url).host === home;
  page.on("request", (request) => {
    if (!own(request.url())) note(`foreign request: ${request.url()}`);
  });
  page.on("websocket", (socket) => {
    if (!own(socket.url())) note(`foreign socket: ${socket.url()}`);
  });
  return { page, context, problems, expect: (pattern) => expected.push(pattern) };
}

/** Violations of WCAG 2.0 to 2.2, A and AA, and of axe's best practices, as readable lines; empty is the aim. */
export async function axeViolations(page) {
  // Through the debugger and not through a script element: the page's policy forbids the latter, and is right.
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.flatMap(({ id, help, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${help} at ${target.join(" ")}: ${failureSummary.replaceAll("\n", " ")}`));
}

/** Nothing may stick out to the side: the page as a whole never scrolls sideways. */
export function sidewaysOverflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

export async function screenshot(page, name, { fullPage = true } = {}) {
  await page.screenshot({ path: `${ARTIFACTS}/${name}.png`, fullPage });
}

/** Polls a condition in this process; the browser's own waiting covers everything that is in the page. */
export async function eventually(what, condition, { withinMs = 30_000 } = {}) {
  const until = Date.now() + withinMs;
  let last;
  do {
    last = await condition();
    if (last) return last;
    await new Promise((resolve) => setTimeout(resolve, 200));
  } while (Date.now() < until);
  throw new Error(`${what} did not happen within ${withinMs / 1000} s`);
}
