// A process that applies random batches to a file store and says how many are done, until it is killed: FILE SEED SKIP
import { openFile } from "../src/node/file.js";
import { Random } from "./random.js";
import { Batches } from "./storemodel.js";

const [file = "", seed = "", skip = ""] = process.argv.slice(2);
const store = await openFile(file, { compactAfter: 20_000 });
const r = new Random(Number(seed));
const batches = new Batches(new Random(Number(seed)));
let done = 0;
for (let i = 0; i < Number(skip); i++) {
  batches.next();
  done++;
}
for (;;) {
  const some = Array.from({ length: 1 + r.below(5) }, () => store.apply(batches.next()).then(() => void done++));
  await Promise.all(some);
  process.stdout.write(`${done}\n`);
}
