// Compares the cases that the tests of each language have run with those that the files hold: the second half of make
// conformance. Usage: node tools/conformance.mjs FOLDER, where FOLDER has go.jsonl and ts.jsonl.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folders whose files of cases all SDKs are held to, from the root of the repository. */
export const folders = ["testdata", "wire/testdata", "content/testdata", "client/testdata/transcripts"];

/** The languages that have an SDK; each writes LANGUAGE.jsonl. */
export const languages = ["go", "ts"];

/** Returns the names of the cases in a file: its own if it has one, else of the objects in its list, or in each of its lists. */
function casesOf(content) {
  if (content.name !== undefined) {
    return [content.name];
  }
  const lists = Array.isArray(content) ? [content] : Object.values(content).filter(Array.isArray);
  return lists.flat().map((c) => c.name);
}

/** Returns what the files below root hold: how often each case is there, by "FILE: NAME". */
function held(root) {
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name !== "README.md")
      .map((entry) => `${folder}/${entry.name}`),
  );
  return tally(
    files.flatMap((file) => {
      const cases = casesOf(JSON.parse(readFileSync(join(root, file), "utf8")));
      if (cases.length === 0 || cases.some((name) => typeof name !== "string" || name === "")) {
        throw new Error(`${file} has no cases, or one without a name`);
      }
      return cases.map((name) => `${file}: ${name}`);
    }),
  );
}

function tally(names) {
  const counts = new Map();
  for (const name of names) {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/** Returns what is wrong with the cases that were run, as noted in folder: one line each, none if all is well. */
export function differences(root, folder) {
  const want = held(root);
  return languages.flatMap((language) => {
    const path = join(folder, `${language}.jsonl`);
    const lines = existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
    const got = tally(
      lines
        .filter(Boolean)
        .map((line) => JSON.parse(line))
        .map((r) => `${r.file}: ${r.case}`),
    );
    return [...new Set([...want.keys(), ...got.keys()])]
      .filter((name) => want.get(name) !== got.get(name))
      .map((name) => `${language}: ${name}: in the files ${want.get(name) ?? 0} times, run ${got.get(name) ?? 0} times`);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const wrong = differences(root, process.argv[2]);
  wrong.forEach((line) => console.error(line));
  if (wrong.length > 0) {
    process.exit(1);
  }
  const cases = [...held(root).values()].reduce((sum, n) => sum + n, 0);
  console.log(`${cases} cases were run in each of ${languages.join(" and ")}`);
}
