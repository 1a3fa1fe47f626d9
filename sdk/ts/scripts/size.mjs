// Prints how large everything of this package is that an app in a browser loads, minified and gzipped, and fails above the
// limit. The size by itself is without what an app leaves out: bundlers drop what is not imported.
import { build } from "esbuild";
import { gzipSync } from "node:zlib";

const limit = 35 * 1024;

const { outputFiles, metafile } = await build({
  stdin: {
    contents: `export * from "./dist/index.js"; export * as wire from "./dist/wire/index.js";`,
    resolveDir: ".",
  },
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
  `bundle: ${(size / 1024).toFixed(1)} KiB gzipped of ${limit / 1024} KiB; ` +
    `${(bundle.contents.length / 1024).toFixed(1)} KiB minified, of which @bufbuild/protobuf is ${(library / 1024).toFixed(1)} KiB`,
);
if (size > limit) {
  console.error("the bundle is above its limit");
  process.exit(1);
}
