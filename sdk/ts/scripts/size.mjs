// Writes dist/pim.js, all of the package in one file for pages without a build step, and prints how large everything of this package is that an app in a browser loads, minified and gzipped, and fails above the
// limit: so it does not grow unnoticed. The limit is above the 35 KiB that the package was to have (decision 48).
//
// "app" is what an app has that calls open, and "bundle" all that there is: bundlers drop what is not imported.
import { build } from "esbuild";
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { browsers } from "./browsers.mjs";

const limit = 63.5 * 1024;

/** Prints the size of a bundle of what contents exports, and returns it: the bundle, and its bytes after gzip. */
async function measure(name, contents) {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: "." },
    bundle: true,
    minify: true,
    format: "esm",
    target: browsers,
    platform: "browser",
    write: false,
    metafile: true,
  });
  const [bundle] = outputFiles;
  const size = gzipSync(bundle.contents, { level: 9 }).length;
  const [output] = Object.values(metafile.outputs);
  const library = Object.entries(output.inputs).reduce(
    (sum, [path, { bytesInOutput }]) => sum + (path.includes("node_modules/") ? bytesInOutput : 0),
    0,
  );
  console.log(
    `${name}: ${(size / 1024).toFixed(1)} KiB gzipped of ${limit / 1024} KiB; ` +
      `${(bundle.contents.length / 1024).toFixed(1)} KiB minified, of which libraries are ${(library / 1024).toFixed(1)} KiB`,
  );
  return { size, contents: bundle.contents, inputs: output.inputs };
}

/** Says what the folders of this package, and the libraries, take of a bundle. */
function partsOf(inputs) {
  const parts = new Map();
  for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
    const part = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? path.split("/").at(1);
    parts.set(part, (parts.get(part) ?? 0) + bytesInOutput / 1024);
  }
  const some = [...parts].filter(([, size]) => size >= 0.1).sort(([, a], [, b]) => b - a);
  return some.map(([part, size]) => `${part} ${size.toFixed(1)}`).join(", ");
}

await measure("engine", `export * from "./dist/engine/index.js";`);
const app = await measure("app", `export { open } from "./dist/index.js";`);
console.log(`app by its parts, KiB minified: ${partsOf(app.inputs)}`);
const { size, contents } = await measure(
  "bundle",
  `export * from "./dist/index.js"; export * as wire from "./dist/wire/index.js";`,
);
writeFileSync("dist/pim.js", contents);
const decision = new URL("../../../docs/decisions/0048-typescript.md", import.meta.url);
const said = Number(/It has ([\d.]+), of which the engine/.exec(readFileSync(decision, "utf8"))?.[1]);
if (!(Math.abs(said - size / 1024) < 0.4)) {
  console.error(`docs/decisions/0048-typescript.md says that the bundle has ${said} KiB`);
  process.exit(1);
}
if (size > limit) {
  console.error("the bundle is above its limit");
  process.exit(1);
}
