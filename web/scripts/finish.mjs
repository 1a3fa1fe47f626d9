// Finishes a build: codes every file with brotli and gzip, and checks that the first view is small.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";

/** What the first view may have in bytes, gzipped: the page, its script and its style. */
const most = 110 * 1024;

const dist = fileURLToPath(new URL("../dist", import.meta.url));
let total = 0;
let coded = 0;
for (const entry of await readdir(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile()) {
    continue;
  }
  const path = join(entry.parentPath, entry.name);
  const plain = await readFile(path);
  const zipped = await promisify(gzip)(plain, { level: 9 });
  const brotli = await promisify(brotliCompress)(plain, {
    params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length },
  });
  await writeFile(`${path}.gz`, zipped);
  await writeFile(`${path}.br`, brotli);
  total += zipped.length;
  coded += brotli.length;
}
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
console.log(`chat page: ${kib(total)} gzipped (at most ${kib(most)}), ${kib(coded)} with brotli`);
if (total > most) {
  console.error("chat page: too large for the first view");
  process.exit(1);
}
