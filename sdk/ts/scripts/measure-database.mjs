// Measures the database in Chromium: what a send costs, and how long the list of 1,000 conversations and a page of history take, at
// four times slower CPU too. It needs the node_modules of sdk/ts and web, and a chromium: npm run measure [conversations] [messages]
import { build } from "esbuild";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { chromium } = createRequire(new URL("../../../web/package.json", import.meta.url))("playwright-core");
const [conversations = 1000, messages = 50] = process.argv.slice(2).map(Number);

const code = `
import { newBatch } from "./src/engine/io.js";
import { newMeta } from "./src/engine/types.js";
import { open } from "./src/index.js";
import { makeEntry, newClientMessageID } from "./src/pim/index.js";
import { openDatabase } from "./src/store/idb.js";

const utf8 = new TextEncoder();
const kind = 1;
const counts = { count: 0, own: 0, ownCount: 0, ownAll: 0, mentioned: { named: 0, all: 0 } };
const row = { ...counts, last: undefined, lastCut: false, left: false, holes: [], folded: 0, stale: 0, front: 0, lost: 0 };
let stored = 0;

async function timed(f) {
  const began = performance.now();
  await f();
  return performance.now() - began;
}

async function withStore(f) {
  const s = await openDatabase({ user: "alice", device: "laptop" });
  const result = await f(s, (changes) => s.apply({ ...newBatch(), ...changes }));
  await s.close();
  return result;
}

window.fill = (n, each) =>
  withStore(async (s, apply) => {
    for (let i = 0; i < n; i++) {
      const conversation = "d:alice:user" + i;
      const entries = Array.from({ length: each }, (_, k) => {
        const at = { conversation, seq: k + 1, anchor: k + 1, count: k + 1, local: 1e12 + k, server: 1e12 + k };
        const payload = utf8.encode("a message of about the length that messages have, number " + k);
        const from = { sender: "alice", device: "laptop", clientID: newClientMessageID() };
        return { number: ++stored, late: false, entry: makeEntry({ ...at, ...from, kind, payload }) };
      });
      await apply({ entries, conversations: [{ ...row, id: conversation, known: each, newest: each }], meta: { ...newMeta(), stored } });
    }
  });

window.list = async () => {
  let rows;
  const open = await timed(() => withStore((s) => s.load()));
  const list = await withStore((s) => timed(async () => (rows = await s.conversations())));
  const page = await withStore((s) => timed(() => s.entries(rows[0].id, undefined, 50)));
  return { open, list, page };
};

// Whole clients, which share a connection between tabs; they have none now, so only the outbox is written.
window.send = async (n) => {
  const me = await open({ server: location.origin, user: "alice", device: "sender", token: "token" });
  await me.setOnline(false);
  const chat = me.direct("bob");
  const send = () => chat.sendText("x".repeat(100));
  await send();
  const each = await timed(async () => {
    for (let i = 0; i < n; i++) {
      await send();
    }
  });
  const together = await timed(() => Promise.all(Array.from({ length: n }, send)));
  const outbox = await me.outbox();
  await Promise.all(outbox.map((m) => me.discard(m.id)));
  await me.close();
  return { alone: each / n, [n + " together"]: together };
};
`;

const root = new URL("..", import.meta.url).pathname;
const { outputFiles } = await build({ stdin: { contents: code, resolveDir: root }, bundle: true, write: false, format: "esm" });
const server = createServer((request, response) => {
  const script = request.url === "/script.js";
  response.setHeader("content-type", script ? "text/javascript" : "text/html");
  response.end(script ? outputFiles[0].text : `<script type="module" src="/script.js"></script>`);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const folder = mkdtempSync(join(tmpdir(), "pim-measure-"));
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launchPersistentContext(folder, { executablePath, args: ["--no-sandbox"] });

/** Evaluates an expression in a page of its own, on a CPU that is slower by a factor; milliseconds are rounded. */
async function measure(slower, expression) {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction("window.send");
  const cdp = await browser.newCDPSession(page);
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: slower });
  const result = await page.evaluate(expression);
  await page.close();
  return (
    result &&
    Object.entries(result)
      .map(([name, ms]) => `${name} ${ms.toFixed(1)} ms`)
      .join(", ")
  );
}

try {
  await measure(1, `fill(${conversations}, ${messages})`);
  console.log(`${conversations} conversations of ${messages} messages, CPU as it is and four times slower`);
  for (const slower of [1, 4]) {
    console.log(`${slower}×: open and load, list, page of 50: ${await measure(slower, "list()")}`);
    console.log(`${slower}×: a send until it is in the outbox: ${await measure(slower, "send(200)")}`);
  }
} finally {
  await browser.close();
  server.close();
  rmSync(folder, { recursive: true, force: true });
}
