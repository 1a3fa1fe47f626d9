// What messages say, between devices: texts and envelopes. docs/content.md is the specification, package content its Go form.
export * from "./content.js";
export { encodeContent, isEnvelope, parseContent } from "./encoding.js";
export { type Preview, previewOf } from "./preview.js";
export * from "./types.js";
