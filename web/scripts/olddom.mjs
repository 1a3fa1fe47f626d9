// Writes the types of the DOM as far as the oldest browsers have it that pim is built for, from those of TypeScript and the data of MDN:
// npm run check compiles the page and the SDK by them, so it does not find what only newer browsers have. (Of JavaScript itself
// tsconfig.json names the version.)
import bcd from "@mdn/browser-compat-data" with { type: "json" };
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { browsers } from "../../sdk/ts/scripts/browsers.mjs";

/** Reports whether all of the browsers have what MDN documents at the path: without a flag or a prefix, or if MDN knows nothing of it. */
function isOld(path) {
  const feature = path.split("/").reduce((in_, name) => in_?.[name], bcd.api)?.__compat;
  return browsers.every((target) => {
    const [, browser, version] = /^(\D+)(.*)$/.exec(target);
    return [feature?.support[browser] ?? { version_added: "0" }].flat().some((s) => {
      const added = String(s.version_added).replace("≤", "");
      return (
        /^\d/.test(added) &&
        Number(added) <= Number(version) &&
        !(s.version_removed || s.flags || s.prefix || s.alternative_name)
      );
    });
  });
}

/** Returns the name that a line declares; "" if it declares none. */
const nameIn = (line) => /^ *(?:declare (?:var|function) |readonly |get |set )*([\w$]+)/.exec(line)?.[1] ?? "";

const root = fileURLToPath(new URL("..", import.meta.url));
const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
const native = `@typescript/typescript-${process.platform}-${process.arch}/package.json`; // the compiler, with its libraries
const lib = join(dirname(createRequire(join(typescript, "package.json")).resolve(native)), "lib");

const old = [];
let documented = ""; // where MDN documents what comes next
let dropped = ""; // what the line before has declared, if that is too new
let within = false; // that goes on, to a line that closes it
for (const line of (await readFile(join(lib, "lib.dom.d.ts"), "utf8")).split("\n")) {
  const made = /^declare var (\w+): \{/.exec(line); // its documentation is at the interface
  const reference = /\(https:\/\/developer\.mozilla\.org\/docs\/Web\/API\/([\w/]+)\)/.exec(line);
  documented = made?.[1] ?? reference?.[1] ?? documented;
  if (within) {
    within = !line.startsWith("}");
  } else if (/^ *(\/\*\*|\*)/.test(line)) {
    old.push(line);
  } else if (
    nameIn(line) !== "" &&
    (nameIn(line) === dropped || (documented && !line.startsWith("interface ") && !isOld(documented)))
  ) {
    dropped = nameIn(line);
    within = line.endsWith("{"); // of what it makes; its type is there still, for others that name it
    documented = "";
  } else {
    old.push(line);
    dropped = "";
    documented = "";
  }
}
// The compiler takes a package of this name instead of its own types (libReplacement), also where a library asks for them.
const written = join(root, "build/node_modules/@typescript/lib-dom");
await mkdir(written, { recursive: true });
await writeFile(join(written, "index.d.ts"), old.join("\n"));
await writeFile(
  join(root, "build/tsconfig.json"),
  JSON.stringify({ extends: "../tsconfig.json", compilerOptions: { libReplacement: true }, include: ["../src"] }),
);
