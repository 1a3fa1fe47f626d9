import { type Client, Memory, open } from "@pim-im/client";
import { render } from "preact";
import { Chat, isKind, isStoreError, reasonOf } from "./chat";
import { passingDeviceOf, setIdentity } from "./keep";
import { askForToken, base, currentLogin, type Login, mayPickName, takeToken, userOf } from "./login";
import { App } from "./ui/App";
import { Mark } from "./ui/Mark";
import { SignIn } from "./ui/SignIn";
import { language, t } from "./words";

const root = document.getElementById("app") ?? document.body;
document.documentElement.lang = language;

/** Takes a token that the embedding app has put into the address. That of another user is taken when the person says so. */
function takeLogin(): boolean {
  const token = takeToken();
  if (token === undefined) {
    return false;
  }
  const now = currentLogin()?.user;
  const next = userOf(token) ?? "?";
  if (now !== undefined && now !== next && !confirm(t.otherUser(now, next))) {
    return false;
  }
  setIdentity({ token });
  return true;
}

/** How long a tab waits for its device when another one has it: the page before a reload leaves it at once. */
const patience = 1500;
/** How many tabs have a device of their own at most. */
const mostTabs = 8;

/**
 * Opens the client as the first of the browser's devices that no other tab has; in memory, if the browser keeps nothing or its
 * storage fails. unkept says so to the person then. It throws if there is a way to open the client with what is stored, as when the
 * page is only to be loaded anew.
 */
async function openClient({ user, device, token }: Login): Promise<{ me: Client; unkept?: string }> {
  const options = { server: new URL(".", base).href.replace(/\/$/, ""), user, device, token, agent: "pim-page" };
  let unkept: string = t.noStorage;
  if (await keepsThings()) {
    const until = performance.now() + patience;
    for (let tab = 1; tab <= mostTabs;) {
      try {
        return { me: await open({ ...options, device: tab === 1 ? device : `${device}-${tab}` }) };
      } catch (err) {
        if (!isKind(err, "conflict")) {
          if (!isKind(err, "unavailable", "disk_full")) {
            throw err;
          }
          unkept = t.storageRefused(reasonOf(err));
          break;
        }
        if (performance.now() < until) {
          await new Promise((resolve) => setTimeout(resolve, 50));
        } else {
          tab++;
        }
      }
    }
  }
  return { me: await open({ ...options, device: passingDeviceOf(user), store: new Memory() }), unkept };
}

/** Reports whether the browser has a database for this page. In private mode some have none. */
function keepsThings(): Promise<boolean> {
  return new Promise((resolve) => {
    try {
      const ask = indexedDB.open("pim.probe");
      ask.onerror = () => resolve(false);
      ask.onsuccess = () => {
        ask.result.close();
        resolve(true);
      };
    } catch {
      resolve(false);
    }
  });
}

/** Says what keeps the page from starting. */
function say(title: string, text: string): void {
  render(
    <main class="welcome">
      <Mark />
      <h1>{title}</h1>
      <p>{text}</p>
      <button type="button" class="primary" onClick={() => location.reload()}>
        {t.reload}
      </button>
    </main>,
    root,
  );
}

async function start(): Promise<void> {
  const login = currentLogin();
  if (!login) {
    const ends = new AbortController();
    const done = (): void => {
      ends.abort();
      void start();
    };
    addEventListener("hashchange", () => takeLogin() && done(), { signal: ends.signal });
    askForToken();
    const pick = await mayPickName().catch(() => false);
    if (!ends.signal.aborted) {
      render(<SignIn pick={pick} onDone={done} />, root);
    }
    return;
  }
  try {
    const { me, unkept } = await openClient(login);
    const chat = new Chat(me);
    me.on("state", ({ state, err }) => {
      if (state === "waiting" && isKind(err, "unauthorized")) {
        askForToken(); // before the client asks for another token
      }
    });
    // A window may be in sight beside the one that a person works in.
    const look = (): void => chat.look(document.visibilityState === "visible" && document.hasFocus());
    const net = (): void => void me.networkChanged("").catch(() => undefined);
    document.addEventListener("visibilitychange", look);
    addEventListener("focus", look);
    addEventListener("blur", look);
    addEventListener("online", () => void me.setOnline(true).catch(() => undefined));
    addEventListener("online", net);
    addEventListener("offline", () => void me.setOnline(false).catch(() => undefined));
    addEventListener("hashchange", () => {
      if (takeLogin()) {
        if (currentLogin()?.user === me.user) {
          void me.reconnect().catch(() => undefined);
        } else {
          location.reload();
        }
      }
    });
    look();
    if (!navigator.onLine) {
      void me.setOnline(false).catch(() => undefined);
    }
    addEventListener("beforeunload", (e) => {
      if (unkept && chat.room?.items.some((m) => m.pending())) {
        e.preventDefault(); // what is not sent would be lost
      }
    });
    render(<App chat={chat} unkept={unkept} />, root);
  } catch (err) {
    say(t.cannotStart, isStoreError(err) && isKind(err, "unsupported") ? t.newerVersion : reasonOf(err));
  }
}

takeLogin();
void start();
