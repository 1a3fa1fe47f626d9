// Measures how long the page takes in Chromium from its database to the list of 1,000 conversations, on this machine's CPU and four
// times slower, without a connection: from the first line of the page's script, when the SDK has read the list, and when the list is
// drawn. npm run measure, after make build.
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { browser, Server } from "../test/world.mjs";

const [conversations = 1000, times = 5] = process.argv.slice(2).map(Number);
const device = "web-measured";

/** Fills the page's database, as the SDK of this page writes it. */
async function script() {
  const input = fileURLToPath(new URL("../test/fixture/fill.js", import.meta.url));
  const configFile = fileURLToPath(new URL("../vite.config.js", import.meta.url));
  const { output } = await build({
    configFile,
    logLevel: "error",
    build: { write: false, rolldownOptions: { input, output: { format: "iife" } } },
  });
  return output[0].code;
}

const server = new Server();
await server.start();
const b = await browser();
try {
  const context = await b.newContext({ viewport: { width: 1440, height: 900 } });
  await context.addInitScript((device) => {
    localStorage.setItem("pim.device.alice", device);
    sessionStorage.setItem("pim.name", "alice");
    // Nobody is there: what is drawn comes from the database.
    window.WebSocket = class extends EventTarget {
      close() {}
    };
    // Layout and paint of what is drawn follow before the next task.
    const seen = (mark) => requestAnimationFrame(() => setTimeout(() => performance.mark(mark)));
    new MutationObserver(() => {
      if (!document.querySelector(".line")) {
        return;
      }
      if (performance.getEntriesByName("first").length === 0) {
        performance.mark("first");
        seen("painted");
      }
      performance.clearMarks("last");
      performance.mark("last");
    }).observe(document, { childList: true, subtree: true });
  }, device);
  const filler = await context.newPage();
  await filler.goto(`${server.url}/page.json`);
  await filler.evaluate(await script());
  await filler.evaluate(([device, n]) => window.fill(device, n), [device, conversations]);
  await filler.close();
  for (const slower of [1, 4]) {
    const found = [];
    for (let i = 0; i < times; i++) {
      const page = await context.newPage();
      const devtools = await context.newCDPSession(page);
      await devtools.send("Emulation.setCPUThrottlingRate", { rate: slower });
      await page.goto(server.url);
      await page.waitForFunction((n) => document.querySelectorAll(".line").length === n, conversations);
      await page.waitForTimeout(500);
      found.push(
        await page.evaluate(() => {
          const at = (mark) => performance.getEntriesByName(mark)[0].startTime;
          const script = performance.getEntriesByType("resource").find(({ name }) => name.endsWith(".js"));
          const begun = script.responseEnd;
          return { painted: at("painted") - begun, all: at("last") - begun };
        }),
      );
      await page.close();
    }
    const median = (name) => found.map((f) => f[name]).sort((a, b) => a - b)[Math.floor(times / 2)];
    console.log(
      `CPU ${slower}×: from the page's script to the list of ${conversations} conversations, painted: ${median("painted").toFixed(0)} ms; ` +
        `all of it is in the page: ${median("all").toFixed(0)} ms (medians of ${times})`,
    );
  }
} finally {
  await b.close();
  await server.remove();
}
