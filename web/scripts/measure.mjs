// Measures the history of 100,000 messages in Chromium, on this machine's CPU and four times slower: how long frames take while a
// person scrolls and while the scroll bar is dragged through all of it, what of that the page's thread works, and what memory the page
// has then. The display has 60 frames a second, so no frame takes less than 16.7 ms. npm run measure
import { fileURLToPath } from "node:url";
import { createServer } from "vite";
import { browser } from "../test/world.mjs";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const vite = await createServer({
  root: path(".."),
  configFile: path("../vite.config.js"),
  server: { host: "127.0.0.1", port: 0, hmr: false, watch: null },
  logLevel: "error",
});
await vite.listen();
const b = await browser();

/** Scrolls up by so many pixels in each of some frames, and returns how long the frames took in milliseconds, sorted. */
function frames(page, count, step) {
  return page.evaluate(
    async ([count, step]) => {
      const scroller = document.querySelector(".scroller");
      scroller.scrollTop = scroller.scrollHeight;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      const times = [];
      let last = await new Promise((resolve) => requestAnimationFrame(resolve));
      for (let i = 0; i < count; i++) {
        scroller.scrollTop -= step;
        const now = await new Promise((resolve) => requestAnimationFrame(resolve));
        times.push(now - last);
        last = now;
      }
      return times.sort((a, b) => a - b);
    },
    [count, step],
  );
}

try {
  for (const slower of [1, 4]) {
    const page = await b.newPage({ viewport: { width: 1000, height: 800 } });
    const url = `http://127.0.0.1:${vite.httpServer.address().port}/test/fixture/index.html`;
    await page.goto(`${url}?messages=100000&loaded=100000`);
    await page.locator(".row").first().waitFor();
    const devtools = await page.context().newCDPSession(page);
    await devtools.send("Emulation.setCPUThrottlingRate", { rate: slower });
    await devtools.send("Performance.enable");
    const worked = async () => {
      const { metrics } = await devtools.send("Performance.getMetrics");
      return metrics.find(({ name }) => name === "TaskDuration").value;
    };
    const total = await page.evaluate(() => document.querySelector(".scroller").scrollHeight);
    for (const [what, count, step] of [
      ["scrolled by 200 px a frame", 300, 200],
      ["dragged through all of it", 100, total / 100],
    ]) {
      const before = await worked();
      const times = await frames(page, count, step);
      const work = (((await worked()) - before) * 1000) / count;
      const at = (part) => times[Math.floor((times.length - 1) * part)].toFixed(1);
      console.log(
        `CPU ${slower}×, ${what}: a frame takes ${at(0.5)} ms, 95 % at most ${at(0.95)} ms, the worst ${at(1)} ms; ${work.toFixed(1)} ms of work`,
      );
    }
    await devtools.send("HeapProfiler.collectGarbage");
    const { usedSize } = await devtools.send("Runtime.getHeapUsage");
    const { nodes } = await devtools.send("Memory.getDOMCounters");
    const rows = await page.locator(".row").count();
    console.log(`CPU ${slower}×: then ${(usedSize / 2 ** 20).toFixed(1)} MiB of JavaScript, ${nodes} nodes, ${rows} rows`);
    await page.close();
  }
} finally {
  await b.close();
  await vite.close();
}
