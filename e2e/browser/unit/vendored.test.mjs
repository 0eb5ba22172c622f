import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("../../../crates/server/web/", import.meta.url));
const read = (name) => readFileSync(web + name, "utf8");
const own = [...readdirSync(`${web}assets`), ...readdirSync(`${web}assets/views`).map((name) => `views/${name}`)].filter((name) => /\.(js|css|svg)$/.test(name));

test("vendored files are what VENDORED.md says, with their licence", () => {
  const rows = [...read("VENDORED.md").matchAll(/^\| `([^`]+)` .*`([0-9a-f]{64})` \|$/gm)];
  assert.equal(rows.length, readdirSync(`${web}assets/vendor`).filter((name) => name.endsWith(".js")).length);
  for (const [, name, sum] of rows) assert.equal(createHash("sha256").update(readFileSync(web + name)).digest("hex"), sum, name);
  assert.match(read("assets/vendor/chart-LICENSE.txt"), /Permission is hereby granted/);
});

test("no own file names another host, writes markup from text or an inline style", () => {
  for (const name of own) {
    const text = read(`assets/${name}`).replaceAll("http://www.w3.org/2000/svg", "");
    assert.doesNotMatch(text, /https?:\/\//, name);
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\("style"/, name);
  }
  for (const page of ["index.html", "login.html"]) {
    assert.doesNotMatch(read(page), /https?:\/\/|<script>|<style| style=| on[a-z]+=/, page);
  }
});

test("modules stay small", () => {
  for (const name of own.filter((each) => each.endsWith(".js"))) assert.ok(read(`assets/${name}`).split("\n").length < 400, name);
});
