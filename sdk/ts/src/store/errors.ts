import { PimError } from "../pim/index.js";

// What a browser throws, as errors that an app can tell apart by their kind and say to a person.

/** There is no IndexedDB, or the page may not use it. */
export function noDatabase(cause?: unknown): PimError {
  const text = "this browser keeps nothing for the page: it is a private window, or storage is switched off";
  return new PimError("forbidden", text, { op: "store", cause });
}

/** Another tab of an older version keeps the database from being brought to this version. */
export function blocked(): PimError {
  const text = "a tab with an older version of the app has the database: close that tab, or reload it";
  return new PimError("conflict", text, { op: "store" });
}

/** The database is of a version that this code does not know, or is about to be. */
export function newerVersion(cause?: unknown): PimError {
  return new PimError("unsupported", "the database is of a newer version of the app: reload the page", { op: "store", cause });
}

/** The database was deleted while it was in use. */
export function deleted(): PimError {
  const text = "the browser has deleted the database, because it was cleared or room was needed: what was not sent is lost";
  return new PimError("not_found", text, { op: "store" });
}

/** The database does not work any more, or was closed. */
export function unavailable(text: string, cause?: unknown): PimError {
  return new PimError("unavailable", text, { op: "store", cause });
}

/** Returns what an operation of a database has thrown as a PimError. */
export function storeError(err: unknown): PimError {
  if (err instanceof PimError) {
    return err;
  }
  const name = err instanceof Error ? err.name : "";
  const said = err instanceof Error ? err.message : String(err);
  switch (name) {
    case "QuotaExceededError":
      return new PimError("disk_full", "the browser gives this page no more room", { op: "store", cause: err });
    case "VersionError":
      return newerVersion(err);
    case "SecurityError":
      return noDatabase(err);
    case "NotFoundError":
      return new PimError("corrupt", `the database lacks something: ${said}`, { op: "store", cause: err });
    case "DataError":
    case "DataCloneError":
      return new PimError("internal", `a value that no database takes: ${said}`, { op: "store", cause: err });
    default: // InvalidStateError of a closed connection, AbortError, UnknownError of a failing disk, and whatever else there is
      return unavailable(`the database does not work: ${name}: ${said}`, err);
  }
}
