// @pim-im/client, the TypeScript SDK of pim.
export * from "./pim/index.js";
export * from "./content/index.js";
export * from "./store/index.js";
export * from "./client/index.js";
