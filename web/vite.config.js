import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { browsers } from "../sdk/ts/scripts/browsers.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// The page is built from the SDK's sources. It names its files relative to itself, so that it works below any path.
export default defineConfig({
  base: "./",
  publicDir: false,
  resolve: {
    alias: [{ find: "@pim-im/client", replacement: here(process.env.PIM_SDK ?? "../sdk/ts/src/index.ts") }],
    // What the SDK imports is found here, whether or not its own folder has it.
    dedupe: ["@bufbuild/protobuf", "idb"],
  },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "dist",
    target: browsers,
    assetsInlineLimit: 0, // the policy has no data: addresses
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
  },
});
