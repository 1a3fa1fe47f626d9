import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { newOutgoing } from "../src/engine/types.js";
import { openFile } from "../src/node/file.js";
import { crc32, frame } from "../src/node/frames.js";
import { EntryKind, newClientMessageID, PimError } from "../src/pim/index.js";
import { utf8 } from "../src/pim/text.js";
import { firstSeed, Random } from "./random.js";
import { batch } from "./storecalls.js";
import { Batches, direct, Model, same } from "./storemodel.js";
import { storetest } from "./storetest.js";

const folder = mkdtempSync(join(tmpdir(), "pim-file-"));
after(() => rmSync(folder, { recursive: true }));

let files = 0;
const newFile = (): string => join(folder, `store${++files}`);

storetest(
  "a file",
  () => {
    const file = newFile();
    return () => openFile(file, { compactAfter: 3_000 });
  },
  3,
);

const child = join(process.cwd(), "build/test/filechild.js");

/** Runs a process until it has applied some batches, and kills it. It returns how many the process has said that are done. */
async function killed(file: string, seed: number, skip: number, more: number, r: Random): Promise<number> {
  const p: ChildProcess = spawn(process.execPath, [child, file, String(seed), String(skip)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(p, "close");
  let said = "";
  let done = skip;
  p.stdout?.setEncoding("utf8");
  p.stdout?.on("data", (text: string) => {
    said += text;
    done = Number(said.slice(0, said.lastIndexOf("\n")).split("\n").at(-1)) || done;
    if (done >= skip + more) {
      setTimeout(() => p.kill("SIGKILL"), r.below(3)); // somewhere in a later one
    }
  });
  await ended;
  assert.equal(p.signalCode, "SIGKILL");
  return done;
}

test("a process is killed again and again: what was done is there, and nothing half", { timeout: 600_000 }, async () => {
  const seed = firstSeed();
  const r = new Random(seed);
  const file = newFile();
  let skip = 0;
  let longest = 0;
  for (let kill = 0; kill < 6; kill++) {
    const done = await killed(file, seed, skip, 1 + r.below(60), r);
    longest = Math.max(longest, statSync(file).size);
    const s = await openFile(file);
    const batches = new Batches(new Random(seed));
    const model = new Model();
    let applied = 0;
    for (; applied < done; applied++) {
      model.apply(batches.next());
    }
    // More than what was said may be there: whole batches.
    for (let error: unknown; ; applied++) {
      try {
        await same(s, model, new Random(1), `seed ${seed}, kill ${kill}: ${done} batches done`);
        break;
      } catch (err) {
        error ??= err;
        if (applied > done + 20) {
          throw error;
        }
        model.apply(batches.next());
      }
    }
    skip = applied;
    await s.close();
  }
  console.log(`${skip} batches in 6 processes, all killed; the file had at most ${longest} bytes`);
});

const message = () => newOutgoing({ id: newClientMessageID(), conversation: direct, kind: EntryKind.message });

/** Writes a file of batches with one message each, and returns it. */
async function filled(n: number): Promise<string> {
  const file = newFile();
  const s = await openFile(file);
  for (let i = 0; i < n; i++) {
    await s.apply(batch({ outbox: [message()] }));
  }
  await s.close();
  return file;
}

async function refused(p: Promise<unknown>): Promise<string> {
  try {
    await p;
  } catch (err) {
    assert.ok(err instanceof PimError, String(err));
    return err.kind;
  }
  return "not refused";
}

test("what was not written as a whole is cut off, wherever it ends", async () => {
  const file = await filled(3);
  const whole = readFileSync(file);
  const last = whole.lastIndexOf(Buffer.from([0x9d, 0x70, 0x69, 0x6d]));
  for (const end of [whole.length - 1, last + 20, last + 16, last + 15, last + 3, last + 1]) {
    writeFileSync(file, whole.subarray(0, end));
    const s = await openFile(file);
    assert.equal((await s.load()).outbox.length, 2, `cut at ${end} of ${whole.length}`);
    await s.apply(batch({ outbox: [message()] }));
    await s.close();
    const again = await openFile(file);
    assert.equal((await again.load()).outbox.length, 3);
    await again.close();
  }
  const zeros = Buffer.concat([whole.subarray(0, last), Buffer.alloc(300)]); // a length without its bytes, after a loss of power
  writeFileSync(file, zeros);
  const s = await openFile(file);
  assert.equal((await s.load()).outbox.length, 2);
  await s.close();
  for (const end of [0, 3, 7]) {
    writeFileSync(file, whole.subarray(0, end));
    const fresh = await openFile(file);
    assert.equal((await fresh.load()).outbox.length, 0);
    await fresh.close();
  }
});

test("a byte that has changed before the end is found, and the file is left as it is", async () => {
  const file = await filled(3);
  const whole = readFileSync(file);
  const last = whole.lastIndexOf(Buffer.from([0x9d, 0x70, 0x69, 0x6d]));
  for (let at = 0; at < last; at += at < 40 ? 1 : 37) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] ?? 0) ^ 0x10;
    writeFileSync(file, changed);
    assert.equal(await refused(openFile(file)), at === 7 ? "unsupported" : "corrupt", `byte ${at}`);
    assert.deepEqual(readFileSync(file), changed);
  }
  writeFileSync(file, Buffer.concat([whole.subarray(0, 8), frame(utf8('[{"entries":[{"conversation":"g:x"}]}]'))]));
  assert.equal(await refused(openFile(file)), "corrupt", "a whole frame that holds something else");
  writeFileSync(file, "something else altogether");
  assert.equal(await refused(openFile(file)), "corrupt");
});

test("a file is written anew when it has grown", async () => {
  const file = newFile();
  const s = await openFile(file, { compactAfter: 10_000 });
  const m = message();
  for (let i = 0; i < 200; i++) {
    await s.apply(batch({ outbox: [{ ...m, number: i }] }));
  }
  const { size } = statSync(file);
  assert.ok(size < 15_000, `${size} bytes`);
  await s.close();
  const again = await openFile(file);
  assert.deepEqual((await again.load()).outbox, [{ ...m, number: 199 }]);
  await again.close();
});

test("a file that cannot be written anew goes on as it is", async () => {
  const file = newFile();
  const s = await openFile(file, { compactAfter: 1_000 });
  mkdirSync(`${file}.new`);
  const m = message();
  for (let i = 0; i < 50; i++) {
    await s.apply(batch({ outbox: [{ ...m, number: i }] }));
  }
  const { size } = statSync(file);
  rmdirSync(`${file}.new`);
  for (let i = 50; i < 100; i++) {
    await s.apply(batch({ outbox: [{ ...m, number: i }] }));
  }
  assert.ok(statSync(file).size < size, "there is room again");
  await s.close();
  const again = await openFile(file);
  assert.deepEqual((await again.load()).outbox, [{ ...m, number: 99 }]);
  await again.close();
});

test("what waits together is flushed together", async () => {
  const file = newFile();
  const s = await openFile(file);
  await Promise.all(Array.from({ length: 100 }, () => s.apply(batch({ outbox: [message()] }))));
  const frames = readFileSync(file).toString("latin1").split("\x9dpim").length - 1;
  assert.equal(frames, 1);
  await s.close();
});

test("one process at a time has a file, and a killed one leaves it to the next", async () => {
  const file = newFile();
  const s = await openFile(file);
  assert.equal(await refused(openFile(file)), "conflict", "in this process");
  await s.close();

  const p = spawn(process.execPath, [child, file, "1", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  await once(p.stdout, "data");
  assert.equal(await refused(openFile(file)), "conflict", "in another one");
  const left = readFileSync(`${file}.lock`, "utf8");
  p.kill("SIGKILL");
  await once(p, "close");
  assert.equal(readFileSync(`${file}.lock`, "utf8"), left, "the lock is still there");

  const opened = await Promise.allSettled(Array.from({ length: 5 }, () => openFile(file)));
  assert.equal(opened.filter((o) => o.status === "fulfilled").length, 1, "of several that want it then, one has it");
  for (const o of opened) {
    if (o.status === "fulfilled") {
      await o.value.close();
    }
  }
  writeFileSync(`${file}.lock`, `${process.pid} 1`); // this process ID, of another time
  await (await openFile(file)).close();
  writeFileSync(`${file}.lock`, "");
  await (await openFile(file)).close();
});

test("a folder that is not there, and a file that may not be written", async () => {
  assert.equal(await refused(openFile(join(folder, "none", "store"))), "unavailable");
});

test("the checksum is that of IEEE 802.3", () => {
  assert.equal(crc32(utf8("123456789")), 0xcbf43926);
});
