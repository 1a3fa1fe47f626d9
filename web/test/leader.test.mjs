// The leading tab dies twenty times under a stream of messages, and nothing is lost or doubled.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { killLeaders } from "./leader.mjs";
import { browser, Server, until } from "./world.mjs";

const conversation = "d:alice:bob";
const server = new Server();
let b;

before(async () => {
  await server.start();
  b = await browser();
});

after(async () => {
  await b?.close();
  await server.remove();
});

test(
  "the leading tab is closed and crashes, again and again: another one sends, and nothing is lost or doubled",
  { timeout: 300_000 },
  async (t) => {
    const { tabs, accepted, bob, led, sent } = await killLeaders(b, server, 20);
    const log = await until(async () => {
      const texts = new Set(await server.texts("bob", conversation));
      return [...accepted, ...bob].every((text) => texts.has(text)) && server.texts("bob", conversation);
    }, "all that was accepted is in the log");
    const doubled = log.filter((text, i) => log.indexOf(text) !== i);
    assert.deepEqual(doubled, []);

    // A tab has all messages that the log has; the order of the newest ones is that of a Go client, which displays no more at once.
    const displayed = await server.displayed("bob", conversation);
    const newest = (texts) => texts.slice(-Math.min(texts.length, displayed.length));
    assert.ok(displayed.length >= Math.min(log.length, 1000), `${displayed.length} are displayed`);
    for (const tab of tabs) {
      const all = () => tab.evaluate((n) => window.all(n), log.length + 1);
      await until(async () => (await all()).length === log.length, "the tab has all messages");
      assert.deepEqual((await all()).sort(), [...log].sort());
      assert.deepEqual(newest(await all()), displayed);
      const live = () => tab.evaluate(() => window.live());
      await until(async () => (await live()).at(-1) === displayed.at(-1), "the tab shows the last message");
      const shown = newest(await live());
      assert.ok(shown.length >= 20);
      assert.deepEqual(shown, displayed.slice(-shown.length));
    }
    // A promise of a second needs a quiet machine: it is printed here, and by npm run measure.
    const worst = (all) => `${Math.max(...all)} ms at most`;
    t.diagnostic(`of ${led.length} deaths: another tab leads after ${worst(led)}, a message is stored after ${worst(sent)}`);
  },
);
