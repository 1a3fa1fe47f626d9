// What goes wrong in a browser: its storage, what the server or the SDK refuses, and several tabs of one person.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { another, browser, enter, leave, person, sees, Server, signIn, until, write } from "./world.mjs";

const conversation = "d:alice:bob";
const server = new Server();
let b;
let alice;

before(async () => {
  await server.start();
  b = await browser();
  alice = await person(b, server, "alice");
  await enter(alice, conversation);
});

after(async () => {
  await b?.close();
  await server.remove();
});

/** Puts a text into the field at once, however long it is. */
function type(page, text) {
  return page.evaluate((text) => {
    const field = document.querySelector("textarea");
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }, text);
}

test("what is refused is in the field again, as the edit or the reply that it was", async () => {
  const field = alice.getByRole("textbox");
  await write(alice, "what is edited");
  await alice.locator(".message.own .state", { hasText: "Sent" }).waitFor();
  const tooLong = "x".repeat(70_000);
  for (const [begin, doing] of [
    [() => field.press("ArrowUp"), "Edit the message"],
    [() => field.press("Shift+Tab").then(() => alice.keyboard.press("r")), "Reply to"],
  ]) {
    await begin();
    await alice.locator(".doing", { hasText: doing }).waitFor();
    await type(alice, tooLong);
    await field.press("Enter");
    await alice.getByRole("alert").filter({ hasText: "That was refused" }).waitFor();
    await alice.locator(".doing", { hasText: doing }).waitFor();
    await until(async () => (await field.inputValue()) === tooLong, "the text in the field");
    await type(alice, "");
    await field.press("Escape");
    await alice.getByRole("button", { name: "Close" }).click();
  }
});

test("the focus goes back to the button after Escape in New chat", async () => {
  const button = alice.getByRole("button", { name: "New chat" });
  await button.focus();
  for (const name of ["Name of the other person", "Names of the members"]) {
    await alice.keyboard.press("Enter");
    await alice.getByLabel("Name of the other person").waitFor();
    if (name === "Names of the members") {
      await alice.getByText("New group").click();
    }
    await alice.getByLabel(name).focus();
    await alice.keyboard.press("Escape");
    await alice.getByRole("dialog").waitFor({ state: "detached" });
    await until(() => button.evaluate((e) => e === document.activeElement), "the focus on the button");
  }
});

/** Waits until the focus is at an element of this role and name, for those who see the page's accessibility tree. */
async function focusAt(page, role, name) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Accessibility.enable");
  await until(async () => {
    const { nodes } = await devtools.send("Accessibility.getFullAXTree");
    const at = nodes.filter((n) => n.properties?.some((p) => p.name === "focused" && p.value.value));
    return at.some((n) => n.role.value === role && n.name.value === name);
  }, `the focus at the ${role} ${name}`);
  await devtools.detach();
}

test("the focus is at a heading when what a dialog was opened from is gone", async () => {
  const page = await person(b, server, "gina", { viewport: { width: 390, height: 720 } });
  // The button in the empty list goes when there is a conversation.
  await page.locator(".empty").getByRole("button", { name: "New chat" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await server.pim("send", "bob", "--to", "gina", "hello");
  await page.locator(".line").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await focusAt(page, "heading", "gina");

  // The room goes together with the dialog that belongs to it.
  await page.getByRole("button", { name: "New chat" }).click();
  await page.getByText("New group").click();
  await page.getByLabel("Names of the members").fill("bob");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Members" }).click();
  await page.getByRole("dialog").waitFor();
  await leave(page);
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await focusAt(page, "heading", "gina");
  assert.deepEqual(page.troubles, []);
  await page.context().close();
});

/** Waits until alice's list shows the text for the person. */
function preview(who, text) {
  const line = alice.locator(".line", { has: alice.locator(".title", { hasText: who }) }).locator(".preview");
  return until(async () => (await line.innerText().catch(() => "")) === text, `${text} in the list`);
}

test("the list says that a message has failed, until something newer comes", async () => {
  await server.pim("send", "hugo", "--to", "alice", "hello");
  await enter(alice, "d:alice:hugo");
  await server.pim("block", "hugo", "alice");
  await write(alice, "are you there?");
  await preview("hugo", "Not sent: are you there?");
  await server.pim("block", "hugo", "alice", "--remove");
  await server.pim("send", "hugo", "--to", "alice", "here I am");
  await preview("hugo", "here I am");
  await enter(alice, conversation);
});

test("the list says what became of a message, and has what waits for a server", async () => {
  await server.pim("send", "finn", "--to", "alice", "a slip");
  await preview("finn", "a slip");
  await server.pim("react", "finn", "--to", "alice", "1", "🎉");
  await preview("finn", "finn reacted with 🎉");
  await server.pim("recall", "finn", "--to", "alice", "1");
  await preview("finn", "finn recalled a message");
  await server.pim("read", "alice", "--to", "finn");
  await server.kill();
  await enter(alice, "d:alice:gus");
  await write(alice, "hello, whoever you are");
  await preview("gus", "You: hello, whoever you are");
  await enter(alice, conversation);
  await server.start();
  await until(async () => (await server.texts("gus", "d:alice:gus").catch(() => [])).length === 1, "the message in the log");
  await preview("gus", "You: hello, whoever you are");
});

test("a group that does not exist says so", async () => {
  const noGroup = alice.getByRole("status").filter({ hasText: "There is no such group, or you are no member of it" });
  await alice.evaluate(() => (location.hash = "g:nope"));
  await noGroup.waitFor();
  assert.equal(await alice.getByRole("textbox").count(), 0);

  // So it does when something that was written without a connection is refused there.
  await server.kill();
  await enter(alice, "g:nowhere");
  await write(alice, "is anybody here?");
  await preview("Group", "You: is anybody here?");
  await server.start();
  await preview("Group", "Not sent: is anybody here?");
  await noGroup.waitFor();
  await enter(alice, conversation);
});

test("a new tab offers the names that were picked", async () => {
  const tab = await another(alice);
  await tab.goto(server.url);
  await tab.getByRole("list", { name: "Names that you have used" }).getByRole("button", { name: "alice" }).click();
  await tab.getByRole("navigation").getByRole("heading", { name: "alice" }).waitFor();
  await tab.close();
});

test("who signs out is not offered to the next one", async () => {
  const page = await person(b, server, "ida");
  const other = await another(page);
  await signIn(other, server, "jan");
  await page.getByRole("navigation").getByRole("button", { name: "More" }).click();
  await page.getByRole("menuitem", { name: "Sign out" }).click();
  const offered = page.getByRole("list", { name: "Names that you have used" }).getByRole("button");
  await offered.first().waitFor();
  assert.deepEqual(await offered.allInnerTexts().then((all) => all.map((text) => text.split("\n").at(-1))), ["jan"]);
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...sessionStorage }))).includes("ida"));
  await other.getByRole("navigation").getByRole("button", { name: "More" }).click();
  await other.getByRole("menuitem", { name: "Sign out" }).click();
  await other.getByRole("textbox").waitFor();
  assert.equal(await other.getByRole("list", { name: "Names that you have used" }).count(), 0);
  await page.context().close();
});

test("a browser whose storage fails says so, and which messages are kept", async () => {
  const page = await person(b, server, "emil");
  await page.addInitScript(() => {
    const open = IDBFactory.prototype.open;
    IDBFactory.prototype.open = function (name, ...more) {
      if (name.startsWith("pim:")) {
        throw new DOMException("the disk fails", "UnknownError");
      }
      return open.call(this, name, ...more);
    };
  });
  const device = () => page.evaluate(() => sessionStorage.getItem("pim.passing.emil"));
  await page.reload();
  await page.getByText("What you wrote before and was not sent is still in it").waitFor();
  const before = await device();
  await page.reload();
  await page.getByText("the disk fails").waitFor();
  assert.equal(await device(), before);
  await page.context().close();
});

test("several tabs: what is read in one is notified in none, and the others go on when one is closed or crashes", async () => {
  const second = await another(alice);
  await second.addInitScript(() => {
    window.notified = [];
    window.Notification = class {
      static permission = "granted";
      constructor(_, { body }) {
        window.notified.push(body);
      }
      close() {}
    };
  });
  await signIn(second, server, "alice");
  await server.pim("send", "bob", "--to", "alice", "read in the first tab");
  await sees(alice, "read in the first tab");
  await second.getByText("bob: read in the first tab").or(second.getByText("read in the first tab")).first().waitFor();
  // The first tab is in sight, but the person works elsewhere.
  await alice.evaluate(() => {
    document.hasFocus = () => false;
    dispatchEvent(new Event("blur"));
  });
  await server.pim("send", "bob", "--to", "alice", "seen by nobody");
  await until(() => second.evaluate(() => window.notified.length > 0), "a notification");
  assert.deepEqual(await second.evaluate(() => window.notified), ["seen by nobody"]);
  await second.getByRole("img", { name: "1 unread message" }).waitFor();
  await alice.evaluate(() => {
    delete document.hasFocus;
    dispatchEvent(new Event("focus"));
  });
  await second.getByRole("img", { name: "1 unread message" }).waitFor({ state: "detached" });

  await enter(second, conversation);
  const third = await another(alice);
  await signIn(third, server, "alice");
  await enter(third, conversation);
  await Promise.all([alice.close(), write(second, "while the first tab is closed")]);
  await sees(third, "while the first tab is closed");
  second.goto("chrome://crash").catch(() => undefined); // nobody answers
  await write(third, "while the second tab crashes");
  for (const text of ["while the first tab is closed", "while the second tab crashes"]) {
    const times = async () => (await server.texts("alice", conversation)).filter((t) => t === text).length;
    await until(async () => (await times()) > 0, text);
    assert.equal(await times(), 1);
  }
  assert.deepEqual(third.troubles, []);
  alice = third;
});

test("an app that has the page in a frame is asked once for each token that is of no use", async () => {
  const page = await another(alice);
  await page.route(`${server.url}/app`, (route) =>
    route.fulfill({
      contentType: "text/html",
      body: `<script>asked = 0; onmessage = (e) => (asked += e.data?.type === "pim:token")</script><iframe src="./#token=garbage">`,
    }),
  );
  await page.goto(`${server.url}/app`);
  const asked = () => page.evaluate(() => globalThis.asked);
  await until(async () => (await asked()) === 1, "the question for a token");
  const token = await server.token("frank");
  const forged = `${token.slice(0, -8)}AAAAAAAA`;
  const give = (token) => page.evaluate((t) => (document.querySelector("iframe").src = `./#token=${t}`), token);
  await give(forged);
  const frame = page.frameLocator("iframe");
  await frame.getByText("Your sign-in has run out").waitFor();
  await until(async () => (await asked()) >= 2, "the second question");
  assert.equal(await asked(), 2);
  await give(token);
  await frame.getByText("Your sign-in has run out").waitFor({ state: "detached" });
  assert.equal(await asked(), 2);
  await page.close();
});

test("a store that is deleted offers to load the page again", async () => {
  await alice.evaluate(async () => {
    for (const { name } of await indexedDB.databases()) {
      if (name.startsWith("pim:")) {
        indexedDB.deleteDatabase(name);
      }
    }
  });
  await alice.getByRole("alert").filter({ hasText: "storage has failed" }).waitFor();
  await alice.getByRole("button", { name: "Reload" }).click();
  await sees(alice, "what is edited");
  await alice.getByRole("alert").waitFor({ state: "detached" });
});

test("a database of a newer version asks for a reload, and no other device is made", async () => {
  const page = await person(b, server, "dora");
  await page.goto(`${server.url}/page.json`);
  await page.evaluate(async () => {
    for (const { name } of await indexedDB.databases()) {
      if (name.startsWith("pim:")) {
        await new Promise((resolve, reject) => {
          const asked = indexedDB.open(name, 99);
          asked.onsuccess = () => (asked.result.close(), resolve());
          asked.onerror = reject;
        });
      }
    }
  });
  await page.goto(server.url);
  await page.getByText("has a newer version of this page").waitFor();
  await page.getByRole("button", { name: "Reload" }).waitFor();
  assert.equal(await page.getByRole("navigation").count(), 0);
  await page.context().close();
});
