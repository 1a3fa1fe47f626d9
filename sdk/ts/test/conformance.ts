import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The root of the repository; tests run in sdk/ts. */
const root = join(process.cwd(), "../..");

/** Returns what a file of cases holds that the SDKs of all languages are held to; path is from the root of the repository. */
export function casesOf<T>(path: string): T {
  return JSON.parse(readFileSync(join(root, path), "utf8")) as T;
}

/** Notes that a case of such a file was run, for make conformance, which sets PIM_CONFORMANCE to a folder. */
export function ran(path: string, name: string): void {
  const folder = process.env["PIM_CONFORMANCE"];
  if (folder) {
    appendFileSync(join(folder, "ts.jsonl"), `${JSON.stringify({ file: path, case: name })}\n`);
  }
}
