// Measures how many messages a client in Node takes from a real server, which it builds with Go, with a store in memory and one in a
// file; and what memory holds after them. Senders are processes of the Go client, on the same machine: node scripts/measure-node.mjs
// [messages] [senders], after npm run build.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Memory } from "../dist/index.js";
import { open, openFile } from "../dist/node/index.js";

const [messages = 100_000, senders = 10] = process.argv.slice(2).map(Number);
const each = Math.floor(messages / senders);
setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc");

const root = new URL("../../..", import.meta.url).pathname;
const pim = join(root, "bin/pim");
execFileSync("go", ["build", "-o", pim, "./cmd/pim"], { cwd: root });
const folder = mkdtempSync(join(tmpdir(), "pim-measure-"));
const at = { http: "127.0.0.1:17400", tcp: "127.0.0.1:17401" };
const data = ["--data", folder];
const server = spawn(pim, ["serve", ...data, "--listen", at.http, "--listen-tcp", at.tcp], { stdio: "ignore" });
while (!(await fetch(`http://${at.http}/healthz`).catch(() => undefined))) {
  await new Promise((resolve) => setTimeout(resolve, 50));
}

/** Has all senders send to user, and resolves when the server has all messages. */
function sendAll(user) {
  const lines = "a message of about the length that messages have\n".repeat(each);
  const one = async (_, i) => {
    const args = ["send", "-", "--to", user, "--as", `sender${i}`, "--server", `http://${at.http}`, ...data];
    const sender = spawn(pim, args, { stdio: ["pipe", "ignore", "inherit"] });
    sender.stdin.end(lines);
    await once(sender, "exit");
  };
  return Promise.all(Array.from({ length: senders }, one));
}

const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;

/** Has a client take all messages, as they are sent or, late, when all were sent before; and prints what that takes. */
async function measure(name, store, late) {
  const user = name.replaceAll(/\W+/g, "-");
  const token = execFileSync(pim, ["token", "--user", user, ...data], { encoding: "utf8" }).trim();
  await new Promise((resolve) => setTimeout(resolve, 1000)); // what was before is let go
  gc();
  const before = process.memoryUsage().heapUsed;
  const sent = late ? await sendAll(user) : undefined;
  const me = await open({ server: `tcp://${at.tcp}`, user, device: "bot", token, store });
  const events = me.events();
  const sending = sent ?? sendAll(user);
  let [taken, began] = [0, 0];
  let cpu = process.cpuUsage();
  for await (const ev of events) {
    if (ev.type === "entry" && taken++ === 0) {
      began = performance.now();
      cpu = process.cpuUsage();
    }
    if (taken === each * senders) {
      break;
    }
  }
  const seconds = (performance.now() - began) / 1000;
  const { user: own, system } = process.cpuUsage(cpu);
  await sending;
  gc();
  const held = process.memoryUsage().heapUsed - before;
  const per = `${((own + system) / taken).toFixed(0)} µs of CPU each`;
  console.log(`${name}: ${(taken / seconds).toFixed(0)} messages/s, ${per}; ${mebibytes(held)} of heap more afterwards`);
  await me.close();
  await store.close();
}

try {
  console.log(`${messages} messages of ${senders} senders`);
  const file = async (name) => openFile(join(folder, name));
  await measure("positions only", new Memory({ positionsOnly: true }), false);
  await measure("memory", new Memory(), false);
  await measure("file", await file("live.pim"), false);
  await measure("memory after all were sent", new Memory(), true);
  await measure("file after all were sent", await file("late.pim"), true);
  console.log(`the file has ${mebibytes(statSync(join(folder, "late.pim")).size)}`);
} finally {
  server.kill();
  await once(server, "exit");
  rmSync(folder, { recursive: true, force: true });
}
