// Fifty people in a group, and one person at several devices.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer } from "vite";
import { flashed, noted, throughAll, watchOrder } from "./order.mjs";
import { browser, enter, leave, person, sees, Server, shots, until, write } from "./world.mjs";

const server = new Server();
let vite;
let b;

before(async () => {
  await server.start();
  b = await browser();
  vite = await createServer({
    root: fileURLToPath(new URL("..", import.meta.url)),
    configFile: fileURLToPath(new URL("../vite.config.js", import.meta.url)),
    server: { middlewareMode: true, ws: false, watch: null },
    appType: "custom",
    logLevel: "error",
  });
});

after(async () => {
  await vite?.close();
  await b?.close();
  await server.remove();
});

/** Signs in the users in this process until the test ends, each a client of the SDK that keeps nothing. */
async function crowd(t, users) {
  const { open } = await vite.ssrLoadModule(fileURLToPath(new URL("../../sdk/ts/src/node/index.ts", import.meta.url)));
  return Promise.all(
    users.map(async (user) => {
      const client = await open({ server: server.tcp, user, device: "script", token: await server.picked(user) });
      t.after(() => client.close());
      return client;
    }),
  );
}

test("50 people write in a group at the same time, and two look at it", async (t) => {
  const users = Array.from({ length: 50 }, (_, i) => `user${i}`);
  const each = 2;
  const clients = await crowd(t, users);
  const { conversation: group } = await (await clients[0].createGroup([...users, "ann", "ben", "cleo"])).wait();
  const [ann, ben, cleo] = await Promise.all([
    person(b, server, "ann"),
    person(b, server, "ben", { viewport: { width: 390, height: 700 }, colorScheme: "dark" }),
    person(b, server, "cleo"),
  ]);
  const readers = [ann, ben];
  await Promise.all(readers.map((page) => enter(page, group)));
  await enter(cleo, "d:ann:cleo");
  await clients[0].conversation(group).sendText("begin");
  await Promise.all(readers.map((page) => sees(page, "begin").then(() => watchOrder(page))));

  const texts = ["begin", "by ann", "by ben"];
  const named = users.slice(0, 3); // they mention her
  await Promise.all([
    write(ann, "by ann"),
    write(ben, "by ben"),
    ...clients.map(async (client) => {
      for (let n = 1; n <= each; n++) {
        const mentions = n === each && named.includes(client.user) ? [{ user: "cleo", offset: 0, length: 5 }] : [];
        const text = `${mentions.length > 0 ? "@cleo " : ""}${n} of ${each} by ${client.user}`;
        texts.push(text);
        const options = { mentions: mentions.map((m) => m.user) };
        await (await client.conversation(group).sendContent({ text, mentions }, options)).wait();
      }
    }),
  ]);
  const log = await until(async () => {
    const log = await server.texts("ann", group);
    return log.length >= texts.length && log;
  }, "all messages in the log");
  assert.deepEqual(log.toSorted(), texts.toSorted());
  const order = await server.displayed("ann", group); // which is not the log's if something was sent again late

  for (const page of readers) {
    await sees(page, new RegExp(`${order.at(-1)}$`));
    const notes = await noted(page);
    assert.ok(notes.length > 1, `${notes.length} changes were noted`); // what comes together is drawn together
    assert.equal(flashed(notes, order), undefined);
    await until(async () => (await throughAll(page)).length >= order.length, "all messages in the page");
    assert.deepEqual(await throughAll(page), order);
    await noted(page); // while it was scrolled through, rows were blank
    assert.deepEqual(page.troubles, []);
  }

  // Who looks elsewhere has them in the list, as a Go client has.
  const { unread, mentions } = await server.listed("cleo", "phone", group);
  assert.deepEqual({ unread, mentions }, { unread: texts.length, mentions: named.length });
  const line = cleo.locator(".line", { has: cleo.getByRole("img", { name: `${unread} unread messages` }) });
  await line.getByRole("img", { name: "Mentions you" }).waitFor();
  assert.match(await line.locator(".preview").innerText(), new RegExp(`${log.at(-1)}$`));
  await cleo.screenshot({ path: `${shots}/crowd-elsewhere.png` });
  await ann.screenshot({ path: `${shots}/crowd-1440.png` });
  await until(async () => (await ann.locator(".badge").count()) === 0, "nothing unread in the list of who looks at it");

  // What looks at the order sees two rows that change places for a moment, and a history that is empty for a moment.
  for (const [what, found] of [
    ["swap", /stood above/],
    ["empty", /nothing was shown/],
  ]) {
    await ann.evaluate(async (what) => {
      const [one, other] = document.querySelectorAll(".row:has(.said)");
      const space = one.parentElement;
      const [a, b] = [one.style.transform, other.style.transform];
      const rows = [...space.children];
      if (what === "swap") {
        [one.style.transform, other.style.transform] = [b, a];
      } else {
        space.replaceChildren();
      }
      await Promise.resolve();
      if (what === "swap") {
        [one.style.transform, other.style.transform] = [a, b];
      } else {
        space.replaceChildren(...rows);
      }
    }, what);
    assert.match(flashed(await noted(ann), order), found);
  }
  await Promise.all([ann, ben, cleo].map((page) => page.context().close()));
});

test("what is read on one device is read on the others: two browsers, and a phone with the Go client", async () => {
  const conversation = "d:bob:rea";
  const [home, work] = await Promise.all([person(b, server, "rea"), person(b, server, "rea")]);
  const unread = async (n) => {
    const name = n === 1 ? "1 unread message" : `${n} unread messages`;
    for (const page of [home, work]) {
      await (n === 0
        ? page.locator(".badge").waitFor({ state: "detached" })
        : page.getByRole("img", { name, exact: true }).waitFor());
    }
    await until(async () => (await server.listed("rea", "phone", conversation))?.unread === n, `${n} unread on the phone`);
  };
  const says = (text) => server.pim("send", "bob", "--to", "rea", text);

  await says("one");
  await says("two");
  await unread(2);
  await enter(home, conversation);
  await unread(0);
  await leave(home);
  await says("three");
  await unread(1);
  await server.pim("read", "rea", "--device", "phone", "--to", "bob");
  await unread(0);
  await says("four");
  await unread(1);
  await enter(work, conversation);
  await unread(0);
  assert.deepEqual([...home.troubles, ...work.troubles], []);
});
