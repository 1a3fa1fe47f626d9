import { type FileHandle, open as openHandle, rename, rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Batch, Snapshot, Stored } from "../engine/types.js";
import { type ConversationID, type Entry, type Fold, PimError, type Place, type Seq } from "../pim/index.js";
import { checkInteger, checkObject, checkString } from "../pim/arguments.js";
import { Joined } from "../store/joined.js";
import { Memory } from "../store/memory.js";
import type { ConversationRow, Release, Store } from "../store/store.js";
import { fileHeader, frame, readFrames } from "./frames.js";
import { takeLock, type Unlock } from "./lock.js";
import { decodeBatches, encodeBatches } from "./records.js";

/** How openFile opens a file. */
export interface FileOptions {
  /** The file is written anew when it has grown by this many bytes and to twice its size; the default is 1 MiB. */
  compactAfter?: number;
}

/**
 * Opens a store in a file, for bots and other programs in Node, and creates the file if there is none; its folder must exist.
 * Beside it there are PATH.lock, which names the process that has it open, and at times PATH.new.
 *
 * What was applied survives that the process or the machine dies at any moment: apply returns when it is on the disk. Batches that
 * wait together are written and flushed together. Everything in the file is in memory, too, the history included.
 *
 * It throws a PimError: "conflict" if a living process has the file open, "corrupt" if the file was damaged, "unsupported" if it is
 * of a newer version, "disk_full" or "unavailable" if the system refuses. What a crash has left half written at the end is no
 * damage: it was never promised, and is cut off. When apply has thrown, the file can be opened again later.
 */
export async function openFile(path: string, o: FileOptions = {}): Promise<Store> {
  const file = resolve(checkString("path", path));
  const { compactAfter = 2 ** 20 } = checkObject("options", o);
  checkInteger("compactAfter", compactAfter);
  let unlock: Unlock | undefined;
  let handle: FileHandle | undefined;
  try {
    unlock = takeLock(`${file}.lock`);
    await rm(`${file}.new`, { force: true });
    handle = await openOrCreate(file);
    const memory = new Memory();
    const end = await recover(file, handle, memory);
    return new FileStore(file, handle, memory, end, unlock, compactAfter);
  } catch (err) {
    await handle?.close();
    unlock?.();
    throw fileError(err);
  }
}

async function openOrCreate(file: string): Promise<FileHandle> {
  const made = await openHandle(file, "a", 0o600); // only the user may read messages
  await made.close();
  return openHandle(file, "r+");
}

/** Brings to memory what is in the file, and cuts off what is not whole. It returns where the file ends then. */
async function recover(file: string, handle: FileHandle, memory: Memory): Promise<number> {
  const bytes = await handle.readFile();
  const { payloads, end } = readFrames(bytes);
  for (const payload of payloads) {
    decodeBatches(payload).forEach((b) => memory.applyNow(b));
  }
  if (end === bytes.length && end > 0) {
    return end;
  }
  await handle.truncate(end);
  if (end === 0) {
    await writeAll(handle, fileHeader, 0);
  }
  await handle.sync();
  await syncFolder(file);
  return Math.max(end, fileHeader.length);
}

/** A Store in a file. */
class FileStore implements Store {
  readonly #file: string;
  #handle: FileHandle;
  readonly #memory: Memory;
  #end: number; // of what is in the file
  readonly #unlock: Unlock;
  readonly #compactAfter: number;
  #compactAt: number; // once the file has this size
  readonly #joined = new Joined((batches) => this.#write(batches));
  #lost: PimError | undefined;

  constructor(file: string, handle: FileHandle, memory: Memory, end: number, unlock: Unlock, compactAfter: number) {
    this.#file = file;
    this.#handle = handle;
    this.#memory = memory;
    this.#end = end;
    this.#unlock = unlock;
    this.#compactAfter = compactAfter;
    this.#compactAt = end + compactAfter;
  }

  /** Returns what holds what is in the file. */
  get #open(): Memory {
    if (this.#lost) {
      throw this.#lost;
    }
    return this.#memory;
  }

  async claim(): Promise<Release> {
    return this.#open.claim();
  }

  apply(b: Batch): Promise<void> {
    return this.#joined.add(b);
  }

  async #write(batches: readonly Batch[]): Promise<void> {
    const memory = this.#open;
    try {
      if (this.#end >= this.#compactAt) {
        await this.#compact();
      }
      const bytes = frame(encodeBatches(batches));
      await writeAll(this.#handle, bytes, this.#end);
      await this.#handle.datasync();
      this.#end += bytes.length;
    } catch (err) {
      // What of it is on the disk is not known, so nothing may be written behind it. Opening the file finds that out.
      this.#lost = fileError(err);
      throw this.#lost;
    }
    batches.forEach((b) => memory.applyNow(b));
  }

  /** Writes the file anew, without what has been superseded. */
  async #compact(): Promise<void> {
    const file = `${this.#file}.new`;
    let handle: FileHandle | undefined;
    let end = 0;
    try {
      handle = await openHandle(file, "w+", 0o600);
      for (const bytes of [fileHeader, ...this.#memory.dump().map((b) => frame(encodeBatches([b])))]) {
        await writeAll(handle, bytes, end);
        end += bytes.length;
      }
      await handle.sync();
      await rename(file, this.#file);
    } catch {
      // The file is as it was: it goes on, and is written anew when it has grown further, if there is room then.
      await handle?.close();
      await rm(file, { force: true }).catch(() => undefined);
      this.#compactAt = this.#end + this.#compactAfter;
      return;
    }
    await this.#handle.close();
    this.#handle = handle;
    await syncFolder(this.#file);
    this.#end = end;
    this.#compactAt = end + Math.max(end, this.#compactAfter);
  }

  async close(): Promise<void> {
    await this.#joined.idle();
    const closed = this.#closed;
    this.#closed = true;
    this.#lost ??= new PimError("unavailable", "the file was closed by the app", { op: "store" });
    if (!closed) {
      await this.#handle.close();
      this.#unlock();
    }
  }
  #closed = false;

  async load(): Promise<Snapshot> {
    return this.#open.load();
  }

  async conversations(): Promise<ConversationRow[]> {
    return this.#open.conversations();
  }

  async conversation(id: ConversationID): Promise<ConversationRow | undefined> {
    return this.#open.conversation(id);
  }

  async entries(conversation: ConversationID, before: Place | undefined, limit: number): Promise<Entry[]> {
    return this.#open.entries(conversation, before, limit);
  }

  async range(conversation: ConversationID, from: Seq, to: Seq, limit: number): Promise<Entry[]> {
    return this.#open.range(conversation, from, to, limit);
  }

  async since(number: number, limit: number): Promise<Stored[]> {
    return this.#open.since(number, limit);
  }

  async below(conversation: ConversationID, to: Seq, limit: number): Promise<Entry[]> {
    return this.#open.below(conversation, to, limit);
  }

  async former(conversation: ConversationID, skip: number, limit: number): Promise<Entry[]> {
    return this.#open.former(conversation, skip, limit);
  }

  async folds(conversation: ConversationID, from: Seq, to: Seq): Promise<Fold[]> {
    return this.#open.folds(conversation, from, to);
  }
}

async function writeAll(handle: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

/** Has the name of a file on the disk, where folders can be flushed. */
async function syncFolder(file: string): Promise<void> {
  let folder: FileHandle | undefined;
  try {
    folder = await openHandle(dirname(file), "r");
    await folder.sync();
  } catch (err) {
    const code = err instanceof Error && "code" in err ? String(err.code) : "";
    if (!["EPERM", "EISDIR", "EINVAL"].includes(code)) {
      throw err;
    } // else this system, such as Windows, does not flush folders, and does not need it
  } finally {
    await folder?.close();
  }
}

function fileError(err: unknown): PimError {
  if (err instanceof PimError) {
    return err;
  }
  const said = err instanceof Error ? err.message : String(err);
  const code = err instanceof Error && "code" in err ? err.code : undefined;
  const full = code === "ENOSPC" || code === "EDQUOT";
  return new PimError(full ? "disk_full" : "unavailable", `the file cannot be used: ${said}`, { op: "store", cause: err });
}
