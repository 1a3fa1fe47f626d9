import { deviceOf, forgetName, type Identity, identity, setIdentity } from "./keep";

/** The address of this page without its fragment, below which the server is, whatever path a proxy has put before it. */
export const base = new URL(".", document.baseURI);

/** Returns whether the server lets the person pick a name. */
export async function mayPickName(): Promise<boolean> {
  const answer = await fetch(new URL("page.json", base), { cache: "no-store" });
  const page: unknown = answer.ok ? await answer.json() : undefined;
  return typeof page === "object" && page !== null && "login" in page && page.login === true;
}

/** Returns a token for the name that was picked. It throws an Error whose message the person can read. */
export async function tokenFor(name: string, signal?: AbortSignal): Promise<string> {
  const answer = await fetch(new URL("login", base), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user: name }),
    signal: signal ?? null,
  });
  const said: unknown = await answer.json();
  if (answer.ok && typeof said === "object" && said !== null && "token" in said && typeof said.token === "string") {
    return said.token;
  }
  throw new Error(
    typeof said === "object" && said !== null && "error" in said ? String(said.error) : `${answer.status} ${answer.statusText}`,
  );
}

/**
 * Takes a token out of the address, where the embedding app has put it as #token=…, so that it stays neither in sight nor in the
 * browser's history. Returns undefined if there is none.
 */
export function takeToken(): string | undefined {
  const found = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (found === undefined) {
    return undefined;
  }
  history.replaceState(null, "", location.pathname + location.search);
  return decodeURIComponent(found);
}

/** Returns the user that the token names; undefined if it names none. The server checks the token, not this page. */
export function userOf(token: string): string | undefined {
  try {
    const body = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims === "object" && claims !== null && "sub" in claims && typeof claims.sub === "string") {
      return claims.sub || undefined;
    }
  } catch {
    // It is no token.
  }
  return undefined;
}

/** The token that the client was given last. The one that the app gave last may be newer, while the server still refuses this one. */
let used: string | undefined;
let refused: string | undefined;

/**
 * Tells an embedding app of the same origin that this page needs a token: it sets the fragment of the frame's address. The app is
 * told once for each token that is of no use.
 */
export function askForToken(): void {
  const who = identity();
  const token = used ?? (who && "token" in who ? who.token : "");
  if (window.parent !== window && token !== refused) {
    refused = token;
    window.parent.postMessage({ type: "pim:token" }, location.origin);
  }
}

/** Who this tab is, how it proves that, and as which device. */
export interface Login {
  user: string;
  device: string;
  token(o: { signal: AbortSignal }): Promise<string>;
}

/** Returns the login of the tab; undefined if nobody has signed in. */
export function currentLogin(who: Identity | undefined = identity()): Login | undefined {
  if (!who) {
    return undefined;
  }
  const user = "token" in who ? userOf(who.token) : who.name;
  if (!user) {
    return undefined;
  }
  return {
    user,
    device: deviceOf(user),
    async token({ signal }) {
      const now = identity() ?? who; // the app may have given another token meanwhile
      return "token" in now ? (used = now.token) : tokenFor(now.name, signal);
    },
  };
}

/** Signs the tab out, and loads it anew. The name is not offered any more. What is stored waits for who signs in as the same user. */
export function signOut(): void {
  const who = identity();
  if (who && "name" in who) {
    forgetName(who.name);
  }
  setIdentity(undefined);
  location.replace(location.pathname + location.search);
}
