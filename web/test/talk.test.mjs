// Real browsers and a Go client talk through a real server.
import assert from "node:assert/strict";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { browser, enter, person, sees, Server, shots, shown, until, write } from "./world.mjs";

const conversation = "d:alice:bob";
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const server = new Server();
let b;
let alice;
let bob;

before(async () => {
  await server.start();
  b = await browser();
  [alice, bob] = await Promise.all([
    person(b, server, "alice"),
    person(b, server, "bob", { viewport: { width: 320, height: 640 }, colorScheme: "dark" }),
  ]);
});

after(async () => {
  await b?.close();
  await server.remove();
});

/** Checks that axe finds nothing in the page, and that nothing went wrong there. */
async function clean(page) {
  await page.evaluate(`${axe}; undefined`); // the policy lets no script element in
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const found = violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html.slice(0, 120)).join(" | ")}`);
  assert.deepEqual(found, []);
  assert.deepEqual(page.troubles, []);
}

/** Waits until the page's last own message stands at the state. */
function state(page, text) {
  return page.locator(".message.own .state", { hasText: text }).last().waitFor();
}

test("two browsers and a Go client talk", async () => {
  await enter(alice, conversation);
  await write(alice, "Hello Bob, see https://example.com/a_(b).");
  await bob.getByRole("link", { name: /alice/ }).click();
  await sees(bob, "Hello Bob");
  await state(alice, "Read");
  await write(bob, "你好，Alice!");
  await write(bob, "שלום עולם");
  await write(bob, "🎉");
  await sees(alice, "🎉"); // else what is written in the terminal might be the first in the log
  await server.pim("send", "bob", "--to", "alice", "from a terminal");
  await sees(alice, "from a terminal");
  await sees(bob, "from a terminal");
  const log = await server.texts("alice", conversation);
  assert.equal(log.length, 5);
  const order = await shown(alice);
  assert.deepEqual(order.toSorted(), log.toSorted()); // what crossed on its way is displayed by the time when it was written
  await until(async () => (await shown(bob)).join() === order.join(), "the same order on the phone");
  const link = alice.getByRole("link", { name: "https://example.com/a_(b)", exact: true });
  assert.equal(await link.getAttribute("rel"), "noopener noreferrer nofollow");
  await alice.getByText("is writing").waitFor({ state: "detached" });
});

test("messages change: reactions, edits, recalls, replies, by the keyboard alone", async () => {
  const field = alice.getByRole("textbox");
  await write(alice, "a mistkae");
  await alice.locator(".row", { hasText: "a mistkae" }).locator(".state", { hasText: "Read" }).waitFor();
  await field.press("ArrowUp");
  await until(async () => (await field.inputValue()) === "a mistkae", "the message to be edited");
  await field.fill("a mistake");
  await field.press("Enter");
  await sees(bob, "a mistake");
  await bob.getByText("edited").waitFor();

  await field.press("Shift+Tab"); // to the newest message
  const row = alice.locator(".row:focus");
  await row.waitFor();
  await alice.keyboard.press("ArrowUp");
  await alice.locator(".row:focus", { hasText: "from a terminal" }).waitFor();
  await alice.keyboard.press("r");
  await write(alice, "an answer");
  await bob.locator(".quote", { hasText: "from a terminal" }).waitFor();
  await alice.locator(".row", { hasText: "an answer" }).locator(".state", { hasText: "Read" }).waitFor();
  await field.press("ArrowUp");
  await until(async () => (await field.inputValue()) === "an answer", "the answer to be edited");
  await write(alice, "an answer, edited");
  await bob.locator(".row", { hasText: "an answer, edited" }).locator(".quote", { hasText: "from a terminal" }).waitFor();

  await alice.locator(".row", { hasText: "an answer, edited" }).locator(".state", { hasText: "Read" }).waitFor();
  await field.press("Shift+Tab");
  await alice.locator(".row:focus").waitFor();
  await alice.keyboard.press("End");
  await alice.locator(".row:focus", { hasText: "an answer" }).waitFor();
  await alice.keyboard.press("Delete");
  await bob.getByText("This message was recalled").waitFor();

  const cheer = bob.locator(".row", { hasText: "a mistake" });
  await cheer.hover();
  await cheer.getByRole("button", { name: "React" }).click();
  await cheer.getByRole("menuitem", { name: "🎉" }).click();
  await alice.getByRole("button", { name: /🎉 1: bob/ }).waitFor();
});

test("what a screen reader is told", async () => {
  const list = alice.getByRole("list", { name: "Messages with bob" });
  const rows = list.locator(".row");
  const size = await rows.first().getAttribute("aria-setsize");
  assert.equal(await rows.first().getAttribute("aria-posinset"), "1");
  assert.equal(size, String(await rows.count()));
  assert.match(await rows.nth(1).getAttribute("aria-label"), /^bob, 你好，Alice!, /);
  await server.pim("send", "bob", "--to", "alice", "news");
  await until(async () => (await alice.getByRole("log").innerText()) === "bob: news", "the announcement");
  const tree = await alice.locator("body").ariaSnapshot();
  for (const part of [
    'navigation "Conversations"',
    'region "bob"',
    'list "Messages with bob"',
    'textbox "Write a message"',
    'button "Send"',
  ]) {
    assert.ok(tree.includes(part), `${part} in:\n${tree}`);
  }
});

test("Enter during a composition sends nothing", async () => {
  const field = alice.getByRole("textbox");
  const before = (await server.texts("alice", conversation)).length;
  await field.focus();
  const devtools = await alice.context().newCDPSession(alice);
  await devtools.send("Input.imeSetComposition", { text: "nihao", selectionStart: 5, selectionEnd: 5 });
  const enterKey = { key: "Enter", code: "Enter", windowsVirtualKeyCode: 229 };
  await devtools.send("Input.dispatchKeyEvent", { type: "keyDown", ...enterKey });
  await devtools.send("Input.dispatchKeyEvent", { type: "keyUp", ...enterKey });
  await devtools.send("Input.insertText", { text: "你好" });
  assert.equal(await field.inputValue(), "你好");
  await field.press("Enter");
  await sees(bob, "你好");
  const log = await server.texts("alice", conversation);
  assert.deepEqual(log.slice(before), ["你好"]);
});

test("a group: members, a mention, who has read", async () => {
  await alice.getByRole("button", { name: "New chat" }).click();
  await alice.getByText("New group").click();
  await alice.getByLabel("Names of the members").fill("bob, carol");
  await alice.keyboard.press("Enter");
  await alice.getByRole("region", { name: "bob, carol" }).waitFor();
  const field = alice.getByRole("textbox");
  await alice.getByText("3 members").waitFor();
  await field.pressSequentially("Look here, @b");
  await alice.getByRole("option", { name: "bob" }).waitFor();
  await field.press("Enter");
  await field.pressSequentially("and @all");
  await field.press("Escape");
  await field.press("Enter");
  await bob.getByRole("link", { name: "Back to the conversations" }).click();
  await bob.getByRole("img", { name: "Mentions you" }).waitFor();
  await bob.screenshot({ path: `${shots}/list-320-dark.png` });
  await clean(bob);
  await bob.getByRole("link", { name: /alice, carol/ }).click();
  await bob.locator(".mention.me", { hasText: "@bob" }).waitFor();
  await state(alice, "Read by 1 of 2");
});

test("an invitation: joined, and declined", async () => {
  const asking = new Server("--consent");
  await asking.start();
  const [eve, dora] = await Promise.all([person(b, asking, "eve"), person(b, asking, "dora")]);
  const invite = async (text) => {
    await eve.getByRole("button", { name: "New chat" }).first().click();
    await eve.getByText("New group").click();
    await eve.getByLabel("Names of the members").fill("dora");
    await eve.keyboard.press("Enter");
    await eve.getByLabel("Names of the members").waitFor({ state: "detached" });
    await eve.locator(".room").getByText("You invited dora").waitFor();
    await write(eve, text);
  };
  try {
    await invite("before you came");
    await dora.getByRole("link", { name: /eve invites you into this group/ }).click();
    await dora.getByRole("button", { name: "Decline" }).waitFor();
    await clean(dora);
    await dora.getByRole("button", { name: "Join" }).click();
    await dora.getByRole("textbox").waitFor();
    await write(dora, "here I am");
    await sees(eve, "here I am");
    assert.equal(await dora.getByText("before you came").count(), 0);
    await invite("one more");
    await dora.getByRole("link", { name: /eve invites you into this group/ }).click();
    await dora.getByRole("button", { name: "Decline" }).click();
    await dora.getByText("You are no longer a member").last().waitFor();
    await eve.locator(".room").getByText("dora declined the invitation").last().waitFor();
  } finally {
    await Promise.all([eve.context().close(), dora.context().close()]);
    await asking.remove();
  }
});

test("reload in the middle of sending", async () => {
  await enter(alice, conversation);
  const texts = Array.from({ length: 20 }, (_, i) => `before the reload ${i}`);
  for (const text of texts) {
    await write(alice, text);
  }
  await alice.reload();
  await alice.getByRole("textbox").waitFor();
  // What had not reached the outbox is where it was typed; the last of it may have, in the last moment.
  let draft;
  const log = async () => (await server.texts("alice", conversation)).filter((t) => t?.startsWith("before the reload"));
  await until(async () => {
    draft = (await alice.getByRole("textbox").inputValue()).split("\n").filter(Boolean);
    return (await log()).length + draft.length >= texts.length;
  }, "all of them in the log");
  assert.deepEqual(draft, texts.slice(texts.length - draft.length));
  const all = await log();
  assert.deepEqual(all, texts.slice(0, all.length));
  assert.ok(all.length > 0, "something was sent");
  await alice.getByRole("textbox").fill("");
});

test("offline and back", async () => {
  await alice.context().setOffline(true);
  await alice.getByText("You are offline").waitFor();
  await write(alice, "written offline");
  await state(alice, "Queued");
  await alice.screenshot({ path: `${shots}/offline-1440.png` });
  // While she reads further up, she stays there, whatever becomes of what she has written.
  const scroller = alice.locator(".scroller");
  await scroller.evaluate((s) => s.scrollTo(0, 0));
  await alice.getByRole("button", { name: "To the newest message" }).waitFor();
  await alice.context().setOffline(false);
  await enter(bob, conversation);
  await sees(bob, "written offline");
  await alice.getByText("You are offline").waitFor({ state: "detached" });
  await alice.getByRole("link", { name: /You: written offline/ }).waitFor();
  await until(async () => (await server.texts("alice", conversation)).includes("written offline"), "the message in the log");
  assert.equal(await scroller.evaluate((s) => s.scrollTop), 0);
  await alice.getByRole("button", { name: "To the newest message" }).click();
  await state(alice, "Read");
});

test("the server is killed and started again", async () => {
  await server.kill();
  await write(alice, "written while the server was dead");
  await alice.getByRole("status").filter({ hasText: "Connecting" }).waitFor();
  await server.start();
  await sees(bob, "written while the server was dead");
  await state(alice, "Read");
  const log = await server.texts("alice", conversation);
  assert.equal(log.filter((t) => t === "written while the server was dead").length, 1);
});

test("what was typed is kept", async () => {
  await alice.getByRole("textbox").fill("half a thou");
  await alice.reload();
  await until(async () => (await alice.getByRole("textbox").inputValue()) === "half a thou", "the draft");
  await alice.getByRole("textbox").fill("");
});

test("axe finds nothing, wide and narrow, light and dark", async () => {
  await alice.screenshot({ path: `${shots}/room-1440.png` });
  await clean(alice);
  await bob.screenshot({ path: `${shots}/room-320-dark.png` });
  await clean(bob);
  assert.equal(await bob.evaluate(() => document.documentElement.scrollWidth), 320);
});

test("below a path of a proxy, with a token of the app, in Chinese", async () => {
  const target = new URL(server.url);
  const strip = (path) => path.replace(/^\/chat/, "") || "/";
  const proxy = createServer((q, a) => {
    const onwards = request(
      { host: target.hostname, port: target.port, path: strip(q.url), method: q.method, headers: q.headers },
      (r) => {
        a.writeHead(r.statusCode, r.headers);
        r.pipe(a);
      },
    );
    q.pipe(onwards);
  });
  proxy.on("upgrade", (q, socket) => {
    const onwards = connect(Number(target.port), target.hostname, () => {
      const lines = Object.entries(q.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      onwards.write(`${q.method} ${strip(q.url)} HTTP/1.1\r\n${lines.join("")}\r\n`);
      socket.pipe(onwards).pipe(socket);
    });
    onwards.on("error", () => socket.destroy());
    socket.on("error", () => onwards.destroy());
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  try {
    const address = `http://127.0.0.1:${proxy.address().port}/chat/`;
    const context = await b.newContext({ viewport: { width: 1440, height: 900 }, locale: "zh-CN" });
    const page = await context.newPage();
    await page.goto(`${address}#token=${await server.token("bob")}`);
    await page.getByRole("navigation", { name: "会话" }).waitFor();
    assert.equal(page.url(), address);
    await page
      .getByRole("link", { name: /^alice/ })
      .first()
      .click();
    await sees(page, "written offline");
    await page.screenshot({ path: `${shots}/zh-1440.png` });
    await context.close();
  } finally {
    proxy.close();
    proxy.closeAllConnections();
  }
});

test("a view for the README", async () => {
  const ines = await person(b, server, "ines", { viewport: { width: 1100, height: 720 } });
  await server.pim("send", "tomas", "--to", "ines", "The slides are in the folder. Thank you!");
  await server.pim("send", "李雷", "--to", "ines", "周五见 👋").catch(() => undefined);
  await ines.getByRole("button", { name: "New chat" }).first().click();
  await ines.getByText("New group").click();
  await ines.getByLabel("Names of the members").fill("jonas mei");
  await ines.keyboard.press("Enter");
  await ines.getByText("3 members").waitFor();
  const group = decodeURIComponent(new URL(ines.url()).hash.slice(1));
  const says = (who, text) => server.pim("send", who, "--conversation", group, text);
  await write(ines, "Good morning! The boat leaves at ten, pier 4.");
  await says("jonas", "I am bringing coffee ☕");
  await says("mei", "太好了！我带了水果。");
  await sees(ines, "太好了");
  await ines.locator(".row", { hasText: "coffee" }).hover();
  await ines.locator(".row", { hasText: "coffee" }).getByRole("button", { name: "React" }).click();
  await ines.getByRole("menuitem", { name: "❤️" }).click();
  await ines.locator(".row", { hasText: "太好了" }).hover();
  await ines.locator(".row", { hasText: "太好了" }).getByRole("button", { name: "Reply" }).click();
  await write(ines, "Then we have everything. See you there, @jonas and @mei");
  const mei = await person(b, server, "mei", { viewport: { width: 390, height: 720 }, colorScheme: "dark" });
  await enter(mei, group);
  await sees(mei, "Then we have everything");
  await state(ines, "Read by 1 of 2");
  await ines.mouse.move(0, 0);
  await ines.screenshot({ path: `${shots}/group.png` });
  await mei.screenshot({ path: `${shots}/group-phone.png` });
  const jonas = await person(b, server, "jonas", {
    viewport: { width: 1100, height: 720 },
    colorScheme: "dark",
    locale: "zh-CN",
  });
  await server.pim("send", "נועה", "--to", "jonas", "שלום! נתראה ביום שישי");
  await enter(jonas, group);
  await sees(jonas, "Then we have everything");
  await write(jonas, "好的，十点码头见 👍");
  await jonas.locator(".row", { hasText: "好的" }).locator(".state", { hasText: "已读" }).waitFor();
  await jonas.getByRole("link", { name: /好的/ }).waitFor();
  await clean(jonas);
  await jonas.screenshot({ path: `${shots}/group-dark-zh.png` });
  await clean(ines);
});
