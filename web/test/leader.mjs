// Tabs of one person, of which the leading one dies again and again while all of them send and somebody writes to them: for the test
// of it, and for what measures how long the others take.
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { deadline, until } from "./world.mjs";

/** What all tabs run: it is built once, from the sources of the SDK. */
async function script() {
  const input = fileURLToPath(new URL("fixture/tab.js", import.meta.url));
  const configFile = fileURLToPath(new URL("../vite.config.js", import.meta.url));
  const { output } = await build({
    configFile,
    logLevel: "error",
    build: { write: false, rolldownOptions: { input, output: { format: "iife" } } },
  });
  return output[0].code;
}

/** The ways in which the leading tab dies. */
const deaths = [
  (page) => page.close(),
  async (page) => {
    const crashed = once(page, "crash");
    const devtools = await page.context().newCDPSession(page);
    devtools.send("Page.crash").catch(() => undefined); // nobody is left to answer
    await crashed;
    await page.close();
  },
];

/**
 * Has the leading one of three tabs die so many times, by turns closed and crashed. Meanwhile each tab sends messages to bob, and bob
 * sends to alice. It returns the tabs that live at the end, what was accepted by a tab that may have died since and what bob has sent,
 * and for each death, in milliseconds from just before it, when another tab led and when the server had a message that was handed to a
 * tab that lives.
 */
export async function killLeaders(b, server, times) {
  const code = await script();
  const token = await server.token("alice");
  const context = await b.newContext();
  context.setDefaultTimeout(deadline);
  const accepted = [];
  await context.exposeFunction("accepted", (text) => accepted.push(text));

  let opened = 0;
  const open = async () => {
    const page = await context.newPage();
    await page.goto(`${server.url}/page.json`); // of the server's origin, and without a script of its own
    await page.evaluate(code);
    await page.evaluate((token) => window.begin(token), token);
    const name = `tab ${++opened}`;
    await page.evaluate((name) => window.stream(name), name);
    return { page, id: await page.evaluate(() => window.itself()) };
  };
  const bob = server.sender("bob", "--to", "alice");
  const writing = setInterval(() => bob.say(`bob ${bob.said.length + 1}`), 50);

  let tabs = [];
  const led = [];
  const sent = [];
  try {
    tabs = [await open(), await open(), await open()];
    for (let i = 0; i < times; i++) {
      const leader = await until(() => tabs[0].page.evaluate(() => window.leading()), "a tab leads");
      const dies = tabs.find(({ id }) => id === leader);
      tabs = tabs.filter((tab) => tab !== dies);
      const [one, other] = tabs;
      const next = one.page.evaluate((before) => window.led(before), leader);
      const began = Date.now();
      const dead = deaths[i % deaths.length](dies.page);
      const text = `after death ${i + 1}`;
      const stored = other.page.evaluate((text) => window.send(text), text);
      led.push((await next) - began);
      sent.push((await stored) - began);
      accepted.push(text);
      await dead;
      tabs.push(await open());
    }
  } finally {
    clearInterval(writing); // or the process does not end
  }
  await bob.end();
  for (const { page } of tabs) {
    await page.evaluate(() => window.stop());
  }
  return { tabs: tabs.map(({ page }) => page), context, accepted, bob: bob.said, led, sent };
}
