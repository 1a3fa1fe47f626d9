import { PimError } from "./errors.js";
import { isWellFormed } from "./text.js";

// What an app hands in is checked where it comes in, since no compiler looks at the arguments of JavaScript. What is refused has
// changed nothing. Each of these throws a PimError of kind "invalid".

/** Refuses value, which is not what it should be. */
export function refuse(what: string, value: unknown, should: string): never {
  const is = typeof value === "string" ? "a string" : typeof value === "object" ? "an object" : String(value);
  throw new PimError("invalid", `${what} is ${is}, not ${should}`);
}

/** Returns s, which must be a string. */
export function checkString(what: string, s: unknown): string {
  return typeof s === "string" ? s : refuse(what, s, "a string");
}

/** Returns s, which must be text: without half a surrogate pair, which has no UTF-8. */
export function checkText(what: string, s: unknown): string {
  return isWellFormed(checkString(what, s)) ? String(s) : refuse(what, s, "valid Unicode");
}

/** Returns b, which must be bytes; a copy of this realm's if they are of another one, such as a frame's. */
export function checkBytes(what: string, b: unknown): Uint8Array {
  if (b instanceof Uint8Array) {
    return b;
  }
  const foreign = ArrayBuffer.isView(b) && Object.prototype.toString.call(b) === "[object Uint8Array]";
  return foreign ? Uint8Array.from(b as Uint8Array) : refuse(what, b, "a Uint8Array");
}

/** Returns n, which must be an integer from least to the greatest that a number holds. */
export function checkInteger(what: string, n: unknown, least = 0): number {
  return Number.isSafeInteger(n) && Number(n) >= least ? Number(n) : refuse(what, n, `an integer from ${least} on`);
}

/** Returns on, which must be a boolean. */
export function checkBoolean(what: string, on: unknown): boolean {
  return typeof on === "boolean" ? on : refuse(what, on, "a boolean");
}

/** Returns a copy of list, which must be a list of what check does not refuse. */
export function checkList<T>(what: string, list: readonly T[], check: (one: T) => void): T[] {
  const all = Array.isArray(list as unknown) ? [...list] : refuse(what, list, "a list");
  all.forEach(check);
  return all;
}

/** Returns f, which must be a function. */
export function checkFunction<T>(what: string, f: T): T {
  return typeof f === "function" ? f : refuse(what, f, "a function");
}

/** Returns o, which must be an object. */
export function checkObject<T>(what: string, o: T): T {
  return typeof o === "object" && o !== null ? o : refuse(what, o, "an object");
}

/** Returns a copy of fields; each must be of the type that it has in template, and no number negative. */
export function checkFields<T extends object>(what: string, template: T, fields: Partial<T>): Partial<T> {
  const checked: Record<string, unknown> = { ...checkObject(what, fields) };
  for (const [name, value] of Object.entries(checked)) {
    const usual: unknown = template[name as keyof T];
    const said = `${name} of the ${what}`;
    if (typeof usual === "number") {
      checkInteger(said, value);
    } else if (usual instanceof Uint8Array) {
      checked[name] = checkBytes(said, value);
    } else if (typeof value !== typeof usual && usual !== undefined) {
      refuse(said, value, `a ${typeof usual}`);
    }
  }
  return checked as Partial<T>;
}
