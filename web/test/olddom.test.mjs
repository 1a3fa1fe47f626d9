// The page and the SDK are compiled against what the oldest browsers have.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

test("what only newer browsers have is not in the types", async () => {
  execFileSync(process.execPath, [path("../scripts/olddom.mjs")]);
  const types = await readFile(path("../build/node_modules/@typescript/lib-dom/index.d.ts"), "utf8");
  const has = (declaration) => types.includes(`\n${declaration}`);
  for (const old of [
    "    abort(reason?: any): AbortSignal;",
    "    randomUUID(): ",
    "declare var WebSocket: {",
    "declare function structuredClone",
  ]) {
    assert.ok(has(old), old);
  }
  for (const newer of [
    "    any(signals",
    "    startViewTransition(",
    "    showPopover(",
    "declare var CloseWatcher",
    "declare var VideoEncoder: {",
  ]) {
    assert.ok(!has(newer), newer);
  }
});
