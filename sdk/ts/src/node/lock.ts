import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { PimError } from "../pim/index.js";

// A lock is a file that names the process which holds it: its ID, and where the system says it, when it was started, because IDs
// are given out again. A process that was killed leaves its lock, which the next one takes over. Of several that want to, one at a
// time may, the one that has made a second file, the claim on the lock of the dead process.

/** Ends a lock. A second call has no effect. */
export type Unlock = () => void;

/**
 * Takes the lock at path. It throws a PimError of kind "conflict" if a process that lives has it, this one included. A process of
 * another machine, or in a container that does not show its processes here, is taken for dead.
 */
export function takeLock(path: string): Unlock {
  const me = nameOf(process.pid);
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, me, { mode: 0o600 });
  try {
    if (!tryLink(mine, path)) {
      takeOver(path, mine);
    }
  } finally {
    rmSync(mine, { force: true });
  }
  let held = true;
  return () => {
    if (held) {
      held = false;
      rmSync(path, { force: true });
    }
  };
}

function takeOver(path: string, mine: string): void {
  const holder = read(path);
  if (holder !== undefined && isAlive(holder)) {
    throw conflict(path, holder);
  }
  const claim = `${path}.claim`;
  if (!tryLink(mine, claim)) {
    const other = read(claim);
    if (other !== undefined && isAlive(other)) {
      throw conflict(path, other);
    }
    rmSync(claim, { force: true }); // its process was killed here
    if (!tryLink(mine, claim)) {
      throw conflict(path, "another process");
    }
  }
  try {
    const now = read(path);
    if (now !== holder && now !== undefined) {
      throw conflict(path, now); // it was taken over meanwhile
    }
    renameSync(mine, path);
  } finally {
    rmSync(claim, { force: true });
  }
}

function conflict(path: string, holder: string): PimError {
  const [pid, start] = holder.split(" ");
  // Where the system does not say when a process was started, that one may be another that was given its ID.
  const hint = start === "" ? `; if that is not a program that uses the file, delete ${path}` : "";
  return new PimError("conflict", `the file is open already: process ${pid} has ${path}${hint}`);
}

/** Makes a link to a file, unless there is a file at to; reports whether it did. */
function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (err) {
    if (isCode(err, "EEXIST")) {
      return false;
    }
    throw err;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (err) {
    if (isCode(err, "ENOENT")) {
      return undefined;
    }
    throw err;
  }
}

function nameOf(pid: number): string {
  let stat: string | undefined;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    // not Linux, or the process has ended
  }
  // The name of the program, in parentheses, may hold anything. The start is the 22nd field of all, and the 20th behind it.
  return `${pid} ${stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""}`;
}

function isAlive(name: string): boolean {
  const pid = Number(name.split(" ")[0]);
  try {
    process.kill(pid, 0);
  } catch (err) {
    if (!isCode(err, "EPERM")) {
      return false;
    }
  }
  return nameOf(pid) === name;
}

function isCode(err: unknown, code: string): boolean {
  return err instanceof Error && "code" in err && err.code === code;
}
