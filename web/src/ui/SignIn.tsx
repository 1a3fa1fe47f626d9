import { checkUserID } from "@pim-im/client";
import { useState } from "preact/hooks";
import { names, noteName, setIdentity } from "../keep";
import { tokenFor } from "../login";
import { t } from "../words";
import { Avatar } from "./Avatar";
import { Mark } from "./Mark";

function isName(name: string): boolean {
  try {
    checkUserID(name);
    return true;
  } catch {
    return false;
  }
}

/** The first view: a name to pick, or where to sign in. */
export function SignIn({ pick, onDone }: { pick: boolean; onDone: () => void }) {
  const [name, setName] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  if (!pick) {
    return (
      <main class="welcome">
        <Mark />
        <h1>{t.noLogin}</h1>
        <p>{t.noLoginHint}</p>
      </main>
    );
  }
  const start = async (user: string): Promise<void> => {
    if (!isName(user)) {
      setError(t.namesRule);
      return;
    }
    setBusy(true);
    try {
      await tokenFor(user); // refused here, it can be said here
      setIdentity({ name: user });
      noteName(user);
      onDone();
    } catch (err) {
      setError(t.loginFailed(err instanceof Error ? err.message : String(err)));
      setBusy(false);
    }
  };
  return (
    <main class="welcome">
      <Mark />
      <h1>{t.welcome}</h1>
      <p>{t.welcomeHint}</p>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          void start(name.trim());
        }}
      >
        <label>
          <span>{t.yourName}</span>
          <input
            name="user"
            autoFocus
            autocomplete="username"
            autocapitalize="none"
            spellcheck={false}
            placeholder="alice"
            value={name}
            aria-invalid={error !== ""}
            aria-describedby="name-error"
            onInput={(e) => {
              setName(e.currentTarget.value);
              setError("");
            }}
          />
        </label>
        <button class="primary" disabled={busy || name.trim() === ""}>
          {t.signIn}
        </button>
        <p id="name-error" class="error" role="alert">
          {error}
        </p>
        {names().length > 0 && (
          <ul class="before" aria-label={t.namesBefore}>
            {names().map((n) => (
              <li key={n}>
                <button type="button" disabled={busy} onClick={() => void start(n)}>
                  <Avatar name={n} />
                  <span dir="auto">{n}</span>
                </button>
              </li>
            ))}
          </ul>
        )}
      </form>
    </main>
  );
}
