import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { differences, languages } from "./conformance.mjs";

const files = {
  "testdata/a.json": { limit: 3, these: [{ name: "one" }, { name: "two" }], those: [{ name: "three" }] },
  "wire/testdata/b.json": [{ name: "this" }, { name: "this" }],
  "client/testdata/transcripts/c.json": { name: "story", processes: [{ steps: [] }] },
  "content/testdata/d.json": [{ name: "plain" }],
};

const all = [
  ["testdata/a.json", "one"],
  ["testdata/a.json", "two"],
  ["testdata/a.json", "three"],
  ["wire/testdata/b.json", "this"],
  ["wire/testdata/b.json", "this"],
  ["client/testdata/transcripts/c.json", "story"],
  ["content/testdata/d.json", "plain"],
];

/** Returns what differences says of files, of which each language has run what ran has of it. */
function said(ran) {
  const root = mkdtempSync(join(tmpdir(), "conformance-"));
  try {
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), JSON.stringify(content));
    }
    for (const language of languages.filter((l) => ran[l])) {
      writeFileSync(
        join(root, `${language}.jsonl`),
        ran[language].map(([file, name]) => `${JSON.stringify({ file, case: name })}\n`).join(""),
      );
    }
    return differences(root, root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test("all cases in all languages", () => {
  assert.deepEqual(said({ go: all, ts: all.toReversed() }), []);
});

test("each case that is dropped in one language", () => {
  for (const language of languages) {
    all.forEach((dropped, i) => {
      const [one, ...more] = said({ go: all, ts: all, [language]: all.toSpliced(i, 1) });
      assert.deepEqual(more, []);
      assert.ok(one.startsWith(`${language}: ${dropped.join(": ")}: in the files`), one);
    });
  }
});

test("a file that is dropped, and a language", () => {
  const lines = said({ go: all, ts: all.filter(([file]) => file !== "wire/testdata/b.json") });
  assert.deepEqual(lines, ["ts: wire/testdata/b.json: this: in the files 2 times, run 0 times"]);
  assert.equal(said({ go: all }).length, 6);
});

test("a case that was run and is in no file", () => {
  assert.deepEqual(said({ go: [...all, ["testdata/a.json", "four"]], ts: all }), [
    "go: testdata/a.json: four: in the files 0 times, run 1 times",
  ]);
});
