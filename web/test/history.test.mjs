// The history of 100,000 messages in real Chromium, over a client that is no client.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer } from "vite";
import { browser, deadline, until } from "./world.mjs";

let vite;
let b;
let page;

before(async () => {
  const path = (name) => fileURLToPath(new URL(name, import.meta.url));
  vite = await createServer({
    root: path(".."),
    configFile: path("../vite.config.js"),
    server: { host: "127.0.0.1", port: 0, hmr: false, watch: null },
    logLevel: "error",
  });
  await vite.listen();
  b = await browser();
  page = await b.newPage({ viewport: { width: 1000, height: 800 } });
  page.setDefaultTimeout(deadline);
});

after(async () => {
  await b?.close();
  await vite?.close();
});

const open = (query) =>
  page
    .goto(`http://127.0.0.1:${vite.httpServer.address().port}/test/fixture/index.html?${query}`)
    .then(() => page.locator(".row").first().waitFor());

/** Waits until no older messages are being loaded, and those that came are drawn. */
const loaded = () =>
  page.evaluate(async () => {
    for (let calm = 0; calm < 3; calm = window.loading === 0 ? calm + 1 : 0) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
  });

/**
 * Scrolls up in steps, and returns by how many pixels at most the row in the middle moved otherwise than the steps, and how many
 * rows there were at most.
 */
function climb(steps, step) {
  return page.evaluate(
    async ([steps, step]) => {
      const scroller = document.querySelector(".scroller");
      const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
      let worst = 0;
      let rows = 0;
      for (let i = 0; i < steps; i++) {
        const middle = document.elementFromPoint(500, 300)?.closest(".row") ?? document.querySelector(".row");
        const label = middle.getAttribute("aria-label");
        const top = middle.getBoundingClientRect().top;
        const before = scroller.scrollTop;
        scroller.scrollTop -= step;
        const moved = before - scroller.scrollTop;
        for (let n = 0; n < 3; n++) {
          await frame();
        }
        const all = [...document.querySelectorAll(".row")];
        rows = Math.max(rows, all.length);
        const same = all.find((r) => r.getAttribute("aria-label") === label);
        if (same) {
          worst = Math.max(worst, Math.abs(same.getBoundingClientRect().top - top - moved));
        }
      }
      return { worst, rows };
    },
    [steps, step],
  );
}

/**
 * Has the page note how many rows were blank at once, and how many had no name for a screen reader. From now on all that the person
 * does follows at once, however slow this machine is.
 */
const watch = () =>
  page.evaluate(() => {
    performance.now = () => 0;
    const most = (was, selector) => Math.max(was, document.querySelectorAll(selector).length);
    window.seen = { blank: 0, nameless: 0 };
    new MutationObserver(() => {
      const { blank, nameless } = window.seen;
      window.seen = { blank: most(blank, ".blank"), nameless: most(nameless, ".row:not([aria-label])") };
    }).observe(document.querySelector(".scroller"), { childList: true, subtree: true });
  });
const seen = () => page.evaluate(() => window.seen);

/** Scrolls by so many pixels, one after the other, each time when the rows are drawn and measured. */
const drag = (steps) =>
  page.evaluate(async (steps) => {
    for (const step of steps) {
      document.querySelector(".scroller").scrollTop += step;
      for (let n = 0; n < 3; n++) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
    }
  }, steps);

test("what is read stays in its place while older messages come above", async () => {
  await open("messages=100000");
  await page.locator(".row", { hasText: "100000" }).waitFor();
  const first = () => page.evaluate(() => Number(document.querySelector(".row .said").textContent.split(" ")[0]));
  for (let at = 0; at < 60 || (await first()) >= 100_000 - 120; at += 10) {
    // on a slow machine older ones come after some steps
    const { worst, rows } = await climb(10, 150);
    assert.ok(worst <= 1, `it moved by ${worst} px`);
    assert.ok(rows < 80, `${rows} rows are in the page`);
  }
});

test("a new message moves nothing for who reads further up, and is followed at the end", async () => {
  await loaded();
  const before = await page.evaluate(() => document.querySelector(".scroller").scrollTop);
  await page.evaluate(() => window.come());
  await page.getByRole("button", { name: /1 new message/ }).waitFor();
  assert.equal(await page.evaluate(() => document.querySelector(".scroller").scrollTop), before);
  await page.getByRole("button", { name: /1 new message/ }).click();
  await page.locator(".row", { hasText: "100001" }).waitFor();
  await page.getByRole("button", { name: /newest/ }).waitFor({ state: "detached" });
  await page.evaluate(() => window.come());
  await page.locator(".row", { hasText: "100002" }).waitFor();
});

test("whoever reads at the end stays there, however many messages come, and however fast", async () => {
  await open("messages=1000");
  await page.locator(".row", { hasText: "1000" }).waitFor();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: 4 });
  const lost = await page.evaluate(async () => {
    let lost = 0;
    for (let i = 0; i < 40; i++) {
      window.come(1 + ((i * 7) % 5));
      await new Promise((resolve) => (i % 3 === 0 ? requestAnimationFrame(resolve) : setTimeout(resolve, i % 4)));
      lost += document.querySelector(".jump") ? 1 : 0;
    }
    return lost;
  });
  await devtools.send("Emulation.setCPUThrottlingRate", { rate: 1 });
  assert.equal(lost, 0);
  await page.locator(".row", { hasText: "1120" }).waitFor();
  await page.evaluate(() => window.come(200));
  await page.locator(".row", { hasText: "1320" }).waitFor();
  assert.equal(await page.locator(".jump").count(), 0);
});

test("by keyboard one goes up from the end, and comes back to it", async () => {
  await open("messages=1000&loaded=1000");
  await page.locator(".row", { hasText: "1000" }).waitFor();
  await watch();
  await page.locator(".row").last().focus();
  const at = async (key, position) => {
    await page.keyboard.press(key);
    await until(
      () =>
        page.evaluate((position) => {
          const row = document.activeElement;
          const { top, bottom } = row.getBoundingClientRect();
          const within = document.querySelector(".scroller").getBoundingClientRect();
          return row.getAttribute("aria-posinset") === position && bottom > within.top && top < within.bottom;
        }, String(position)),
      `${key} leads to row ${position}`,
    );
  };
  await at("ArrowUp", 999);
  await page.evaluate(() => window.come()); // who is still at the end follows
  await page.locator(".row", { hasText: "1001" }).waitFor();
  await at("PageUp", 989);
  await at("PageUp", 979);
  await at("Home", 1);
  await page.evaluate(() => window.come());
  await page.locator(".jump").waitFor();
  await at("End", 1002);
  await page.locator(".jump").waitFor({ state: "detached" });
  await page.evaluate(() => window.come());
  await page.locator(".row", { hasText: "1003" }).waitFor();
  await at("PageUp", 992);
  for (let position = 993; position <= 1000; position++) {
    await at("ArrowDown", position);
  }
  await page.keyboard.press("Tab"); // to what the message answers
  await at("Enter", 10);
  assert.deepEqual(await seen(), { blank: 0, nameless: 0 });
});

test("while the scroll bar is dragged rows are blank, and they are filled when it rests", async () => {
  await open("messages=100000&loaded=100000");
  await page.locator(".row", { hasText: "100000" }).waitFor();
  await watch();
  await drag(Array(5).fill(-100_000));
  const { blank, nameless } = await seen();
  assert.ok(blank > 5, `${blank} rows were blank`);
  assert.equal(nameless, 0);
  await page.locator(".blank").first().waitFor({ state: "detached" });
  const close = () =>
    page.evaluate(() => {
      const boxes = [...document.querySelectorAll(".row")].map((row) => row.getBoundingClientRect());
      return boxes.length > 5 && boxes.every(({ top }, i) => i === 0 || Math.abs(top - boxes[i - 1].bottom) <= 1);
    });
  await until(close, "rows that follow each other");
});

test("rows are filled after the last jump, whatever goes on", async () => {
  await open("messages=10000&loaded=10000");
  await page.locator(".row", { hasText: "10000" }).waitFor();
  await watch();
  /** Returns how many frames it takes until no row is blank, while in each the person scrolls on, and a message comes. */
  const filled = (step) =>
    page.evaluate(async (step) => {
      let frames = 0;
      for (; document.querySelector(".blank") && frames < 300; frames++) {
        document.querySelector(".scroller").scrollTop += step;
        window.come();
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
      return frames;
    }, step);
  await drag([-100_000, -100_000, -100_000]);
  const slowly = await filled(-40);
  await drag([-100_000, -100_000, 1e9]);
  const atEnd = await filled(0);
  assert.ok((await seen()).blank > 5);
  assert.ok(slowly < 300, "the person scrolls on slowly, and nothing is to be seen");
  assert.ok(atEnd < 300, "messages come, and none is to be seen");
});

test("older messages that come are no jump", async () => {
  await open("messages=100000");
  await page.locator(".row", { hasText: "100000" }).waitFor();
  await watch();
  await drag(Array(30).fill(-500));
  assert.ok((await page.evaluate(() => window.asked)) >= 3);
  await loaded();
  assert.equal((await seen()).blank, 0);
});

test("the row that has the focus keeps it while the scroll bar is dragged", async () => {
  await open("messages=10000&loaded=10000");
  await page.locator(".row", { hasText: "10000" }).waitFor();
  await page.locator(".row").last().focus();
  await page.keyboard.press("Tab"); // to what the message answers
  await watch();
  await drag(Array(5).fill(-100_000));
  assert.ok((await seen()).blank > 5);
  assert.equal(await page.evaluate(() => document.activeElement.closest(".row")?.getAttribute("aria-posinset")), "10000");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "BUTTON");
});

test("whoever scrolls up from the end, however little, is not taken back", async () => {
  await open("messages=1000&loaded=1000");
  await page.locator(".row", { hasText: "1000" }).waitFor();
  const up = await page.evaluate(async () => {
    const scroller = document.querySelector(".scroller");
    const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const top = () => [...document.querySelectorAll(".row")].at(-1).getBoundingClientRect().top;
    const begun = top();
    for (let i = 1; i <= 10; i++) {
      scroller.scrollTop -= 20;
      await frame();
      window.happen("state", { state: "connected" }); // what draws the page again
      await frame();
    }
    return top() - begun;
  });
  assert.ok(Math.abs(up - 200) <= 1, `the last row went down by ${up} px`);
  await page.locator(".jump").waitFor();
});

test("a row is drawn again only when it has changed", async () => {
  await open("messages=1000");
  await page.locator(".row", { hasText: "1000" }).waitFor();
  await loaded();
  const drawn = await page.evaluate(async () => {
    window.drawn = 0;
    window.come();
    while (!document.querySelector(".scroller").innerText.includes("1001")) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    return window.drawn;
  });
  const rows = await page.locator(".row").count();
  assert.ok(drawn >= 1 && drawn < rows / 2, `${drawn} drawn of ${rows}`);
  assert.equal(
    await page.locator(".row").last().getAttribute("aria-setsize"),
    await page.locator(".row").last().getAttribute("aria-posinset"),
  );
});

test("older messages that cannot be had are asked for again by scrolling or with a connection, and not before", async () => {
  await open("messages=1000");
  await page.locator(".row", { hasText: "1000" }).waitFor();
  const asked = () => page.evaluate(() => window.asked);
  const settled = () =>
    page.evaluate(async () => {
      for (let i = 0; i < 30; i++) {
        await new Promise((resolve) => requestAnimationFrame(resolve));
      }
    });
  await page.evaluate(() => {
    window.failing = true;
    document.querySelector(".scroller").scrollTop = 0;
  });
  await page.getByText("Older messages cannot be loaded now").waitFor();
  await settled();
  const before = await asked();
  await settled();
  assert.equal(await asked(), before);
  await page.evaluate(() => window.happen("state", { state: "connected" }));
  await until(async () => (await asked()) === before + 1, "asked again with the connection");
  await settled();
  assert.equal(await asked(), before + 1);
  await page.evaluate(() => (window.failing = false));
  await page.mouse.move(500, 300);
  await page.mouse.wheel(0, -10);
  await page.getByText("Older messages cannot be loaded now").waitFor({ state: "detached" });
  assert.ok((await asked()) > before + 1);
});

test("100,000 messages are scrolled through", async () => {
  await open("messages=100000&loaded=100000");
  const rows = await page.evaluate(async () => {
    const scroller = document.querySelector(".scroller");
    const step = scroller.scrollHeight / 40;
    let rows = 0;
    for (let i = 0; i < 40; i++) {
      scroller.scrollTop -= step;
      await new Promise((resolve) => requestAnimationFrame(resolve));
      rows = Math.max(rows, document.querySelectorAll(".row").length);
    }
    return rows;
  });
  assert.ok(rows < 80, `${rows} rows are in the page`);
});

test("a long list is drawn in parts, from its beginning on, and nothing of it twice", async () => {
  const other = await page.context().browser().newPage();
  await other.addInitScript(() => {
    window.lists = [];
    const note = () => {
      const lines = [...document.querySelectorAll(".line")].map((a) => decodeURIComponent(a.hash.slice(1)));
      if (lines.length > 0 && lines.length !== window.lists.at(-1)?.length) {
        window.lists.push(lines);
      }
    };
    new MutationObserver(note).observe(document, { childList: true, subtree: true });
  });
  await other.goto(`http://127.0.0.1:${vite.httpServer.address().port}/test/fixture/index.html?messages=10&listed=500`);
  await other.waitForFunction(() => document.querySelectorAll(".line").length === 500);
  const lists = await other.evaluate(() => window.lists);
  const all = Array.from({ length: 500 }, (_, i) => `d:alice:user${i}`);
  for (const lines of lists) {
    assert.deepEqual(lines, all.slice(0, lines.length));
  }
  assert.ok(lists[0].length < 100 && lists.at(-1).length === 500, lists.map((lines) => lines.length).join());
  await other.close();
});
