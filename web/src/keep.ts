// What the page keeps beside the SDK's store: the device's name, drafts, and who this tab is. Where the browser keeps nothing,
// as in private mode, all of it lasts as long as the page.

const fallback = new Map<string, string>();

function get(storage: () => Storage, key: string): string | undefined {
  try {
    return storage().getItem(key) ?? fallback.get(key);
  } catch {
    return fallback.get(key);
  }
}

function set(storage: () => Storage, key: string, value: string): void {
  fallback.set(key, value);
  try {
    storage().setItem(key, value);
  } catch {
    // It is kept in fallback.
  }
}

function remove(storage: () => Storage, key: string): void {
  fallback.delete(key);
  try {
    storage().removeItem(key);
  } catch {
    // It was not kept there.
  }
}

const tab = (): Storage => sessionStorage;
const browser = (): Storage => localStorage;

/** Who the person in this tab is: a token of the embedding app, or a name that was picked. */
export type Identity = { token: string } | { name: string };

/** Returns who this tab was when it was last loaded. */
export function identity(): Identity | undefined {
  const token = get(tab, "pim.token");
  const name = get(tab, "pim.name");
  return token ? { token } : name ? { name } : undefined;
}

/** Remembers who this tab is, for when it is loaded again; undefined: nobody. */
export function setIdentity(who: Identity | undefined): void {
  remove(tab, "pim.token");
  remove(tab, "pim.name");
  if (who && "token" in who) {
    set(tab, "pim.token", who.token);
  } else if (who) {
    set(tab, "pim.name", who.name);
  }
}

/** How many of the names that were picked are kept. */
const mostNames = 4;

/** Returns the names that were picked in this browser, the last one first. */
export function names(): string[] {
  return (get(browser, "pim.names") ?? "").split(" ").filter(Boolean);
}

/** Notes that the name was picked. */
export function noteName(name: string): void {
  set(browser, "pim.names", [name, ...names().filter((n) => n !== name)].slice(0, mostNames).join(" "));
}

/** Forgets that the name was picked. */
export function forgetName(name: string): void {
  set(
    browser,
    "pim.names",
    names()
      .filter((n) => n !== name)
      .join(" "),
  );
}

/** Returns this browser's device of the user, the same at each call. */
export function deviceOf(user: string): string {
  return kept(browser, `pim.device.${user}`, "web");
}

/** Returns the device of this tab alone, for when the messages are kept in memory: the same after a reload, if the browser keeps that. */
export function passingDeviceOf(user: string): string {
  return kept(tab, `pim.passing.${user}`, "tab");
}

/** Returns the device that storage has at key. If there is none, it gets one whose name begins with kind. */
function kept(storage: () => Storage, key: string, kind: string): string {
  let device = get(storage, key);
  if (!device) {
    device = `${kind}-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    set(storage, key, device);
  }
  return device;
}

/** Returns what was typed in the conversation and not sent. */
export function draftOf(user: string, conversation: string): string {
  return get(browser, `pim.draft.${user} ${conversation}`) ?? "";
}

/** Keeps what was typed in the conversation; nothing, if text is empty. */
export function setDraft(user: string, conversation: string, text: string): void {
  const key = `pim.draft.${user} ${conversation}`;
  if (text) {
    set(browser, key, text);
  } else {
    remove(browser, key);
  }
}
