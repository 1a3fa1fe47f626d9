// Prints how large everything of this package is that an app in a browser loads, minified and gzipped, and fails above the
// limit. The size by itself is without what an app leaves out: bundlers drop what is not imported.
//
// The engine is measured, and not held to the limit yet: nothing that an app imports uses it so far. With it the package is
// above the limit, which whoever exports it has to mend.
import { build } from "esbuild";
import { gzipSync } from "node:zlib";

const limit = 35 * 1024;
const exported = `export * from "./dist/index.js"; export * as wire from "./dist/wire/index.js";`;
const engine = `export * as engine from "./dist/engine/index.js";`;

/** Prints the size of a bundle of what contents exports, and returns it: bytes after gzip. */
async function measure(name, contents) {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: "." },
    bundle: true,
    minify: true,
    format: "esm",
    target: ["chrome109", "firefox115", "safari16.4"],
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
      `${(bundle.contents.length / 1024).toFixed(1)} KiB minified, of which @bufbuild/protobuf is ${(library / 1024).toFixed(1)} KiB`,
  );
  return size;
}

await measure("with the engine", exported + engine);
if ((await measure("bundle", exported)) > limit) {
  console.error("the bundle is above its limit");
  process.exit(1);
}
