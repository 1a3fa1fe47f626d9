import { PimError } from "../pim/index.js";

/** Runs f and returns the PimError that it throws, undefined if it throws none. */
export function refusal(f: () => void): PimError | undefined {
  const result = orRefusal(f);
  return result instanceof PimError ? result : undefined;
}

/** Returns what f returns, or the PimError that it throws. */
export function orRefusal<T>(f: () => T): T | PimError {
  try {
    return f();
  } catch (err) {
    if (err instanceof PimError) {
      return err;
    }
    throw err;
  }
}

/** Returns what f returns, undefined if it throws a PimError. */
export function orUndefined<T>(f: () => T): T | undefined {
  const result = orRefusal(f);
  return result instanceof PimError ? undefined : result;
}
