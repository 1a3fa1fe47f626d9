// The parts of the page that need no browser.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

const vite = await createServer({
  root: fileURLToPath(new URL("..", import.meta.url)),
  configFile: fileURLToPath(new URL("../vite.config.js", import.meta.url)),
  server: { middlewareMode: true, ws: false, watch: null },
  appType: "custom",
  logLevel: "error",
});
const load = (path) => vite.ssrLoadModule(path);
after(() => vite.close());

test("every language has the same texts", async () => {
  const { languages, preferred } = await load("/src/words/index.ts");
  const keys = Object.keys(languages.en).sort();
  for (const [language, words] of Object.entries(languages)) {
    assert.deepEqual(Object.keys(words).sort(), keys, language);
    for (const key of keys) {
      assert.equal(typeof words[key], typeof languages.en[key], `${language}: ${key}`);
      assert.equal(words[key].length > 0, true, `${language}: ${key}`);
    }
  }
  assert.equal(preferred(["fr", "zh-Hant-TW", "en"]), "zh");
  assert.equal(preferred(["fr"]), "en");
});

test("addresses", async () => {
  const { safeAddress, trimAddress, isEmoji } = await load("/src/rich.tsx");
  for (const [text, want] of [
    ["https://a.example/x).", "https://a.example/x"],
    ["https://a.example/x_(y)", "https://a.example/x_(y)"],
    ["https://a.example/?q=1&r=2!", "https://a.example/?q=1&r=2"],
    ["https://a.example/[1]]", "https://a.example/[1]"],
  ]) {
    assert.equal(trimAddress(text), want);
  }
  for (const bad of ["javascript:alert(1)", "data:text/html,x", "http:", "//a.example", "file:///etc/passwd", "x"]) {
    assert.equal(safeAddress(bad), undefined, bad);
  }
  assert.equal(safeAddress("HTTPS://A.example"), "https://a.example/");
  for (const [text, want] of [
    ["🎉", true],
    ["👩‍👩‍👧‍👦❤️", true],
    ["👍🏽", true],
    ["🇨🇳", true],
    ["1", false],
    ["a🎉", false],
    ["🎉🎉🎉🎉", false],
    ["", false],
  ]) {
    assert.equal(isEmoji(text), want, text);
  }
});

test("mentions", async () => {
  const { mentionsIn, typedName } = await load("/src/mention.ts");
  const members = ["bob", "bob.s", "李"];
  const { mentions, users, all } = mentionsIn("你好 @bob, @bob.s. and @李 @eve x@bob @all", members);
  assert.deepEqual(
    mentions.map((m) => [m.user, m.offset, m.length]),
    [
      ["bob", 7, 4],
      ["bob.s", 13, 6],
      ["李", 25, 4],
      ["", 41, 4],
    ],
  );
  assert.deepEqual(users, members);
  assert.equal(all, true);
  assert.deepEqual(mentionsIn("@bob", []), { mentions: [], users: [], all: false });
  assert.equal(typedName("hi @bo", 6), "bo");
  assert.equal(typedName("hi @bo there", 6), "bo");
  assert.equal(typedName("x@bo", 4), undefined);
  assert.equal(typedName("@", 1), "");
});

test("Enter sends, unless it belongs to a composition", async () => {
  const { sends } = await load("/src/compose.ts");
  const key = { key: "Enter", isComposing: false, keyCode: 13, shiftKey: false, ctrlKey: false, metaKey: false, altKey: false };
  assert.equal(sends(key), true);
  for (const change of [{ isComposing: true }, { keyCode: 229 }, { shiftKey: true }, { key: "a" }]) {
    assert.equal(sends({ ...key, ...change }), false, JSON.stringify(change));
  }
});

test("what is in the outbox has its place in the list, and what failed only until something newer came", async () => {
  const { listOf } = await load("/src/list.ts");
  const { encodeContent, EntryKind } = await load("@pim-im/client");
  const info = (id, time, pinned = false) => ({ id, time, pinned, text: () => `${id} at ${time}` });
  const wrote = (conversation, queued, state) => {
    const payload = encodeContent({ text: `written at ${queued}` });
    return { kind: EntryKind.message, conversation, queued, state, payload };
  };
  const lines = (outbox) =>
    listOf([info("pinned", 10, true), info("bob", 30), info("carol", 20)], outbox).map(
      ({ id, known, waiting }) =>
        `${id}${known ? "" : "?"}${waiting ? ` ${waiting.failed ? "failed" : "waits"} ${waiting.text}` : ""}`,
    );
  assert.deepEqual(lines([]), ["pinned", "bob", "carol"]);
  assert.deepEqual(lines([wrote("bob", 29, "waiting")]), ["pinned", "bob waits written at 29", "carol"]);
  assert.deepEqual(lines([wrote("bob", 31, "failed")]), ["pinned", "bob failed written at 31", "carol"]);
  assert.deepEqual(lines([wrote("bob", 29, "failed")]), ["pinned", "bob", "carol"]);
  const both = [wrote("bob", 28, "waiting"), wrote("bob", 29, "failed")];
  assert.deepEqual(lines(both), ["pinned", "bob waits written at 28", "carol"]);
  const begun = [wrote("new", 25, "failed"), wrote("newer", 40, "waiting")];
  assert.deepEqual(lines(begun), ["pinned", "newer? waits written at 40", "bob", "new? failed written at 25", "carol"]);
});

test("days", async () => {
  const { dayLine, dayOf } = await load("/src/dates.ts");
  const noon = new Date(2026, 10, 30, 12).getTime();
  assert.equal(dayLine(noon, noon), "Today");
  assert.equal(dayLine(new Date(2026, 10, 29, 23, 59).getTime(), noon), "Yesterday");
  assert.equal(dayLine(new Date(2026, 10, 25, 1).getTime(), noon), "Wednesday");
  assert.equal(dayLine(new Date(2026, 10, 20).getTime(), noon), "November 20");
  assert.equal(dayLine(new Date(2025, 0, 2).getTime(), noon), "January 2, 2025");
  assert.equal(dayOf(noon) - dayOf(new Date(2026, 10, 30, 0, 0).getTime()), 0);
});

test("a refusal of the token before asks for none in place of the one that the app has given since", async () => {
  let asked = 0;
  const parent = { postMessage: () => asked++ };
  const location = new URL("https://a.example/chat/");
  Object.assign(globalThis, { document: { baseURI: location.href }, location, window: { parent } });
  const { askForToken, currentLogin } = await load("/src/login.ts");
  const { setIdentity } = await load("/src/keep.ts");
  const token = (name) => `x.${btoa(JSON.stringify({ sub: "frank", name }))}.x`;
  const { signal } = new AbortController();
  setIdentity({ token: token("old") });
  const login = currentLogin();
  await login.token({ signal });
  setIdentity({ token: token("new") }); // while the server is about to refuse the old one
  askForToken();
  askForToken();
  assert.equal(asked, 1);
  await login.token({ signal });
  askForToken();
  askForToken();
  assert.equal(asked, 2);
});
