import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Chat } from "../chat";
import { isKind, isStoreError, reasonOf } from "../chat";
import { useSignal } from "../signal";
import { t } from "../words";
import { Icon } from "./icons";

/** How long a connection may be missing before it is worth a word. */
const patience = 1000;

/** Says plainly what is wrong with the connection or the store, and what can be done. */
export function Banner({ chat, unkept }: { chat: Chat; unkept: string | undefined }) {
  useSignal(chat.changed);
  const { state, err, retryAt } = chat.connection;
  const [now, setNow] = useState(Date.now());
  const [late, setLate] = useState(false);
  const connected = state === "connected";
  useEffect(() => {
    setLate(false);
    if (connected) {
      return undefined;
    }
    const first = setTimeout(() => setLate(true), patience);
    const tick = setInterval(() => setNow(Date.now()), 1000);
    return () => {
      clearTimeout(first);
      clearInterval(tick);
    };
  }, [connected]);
  const again = (): void => void chat.attempt(() => chat.me.reconnect());

  const lines: { key: string; text: string; action?: ComponentChildren; alert?: boolean }[] = [];
  if (unkept) {
    lines.push({ key: "keeps", text: unkept });
  }
  if (chat.refusal) {
    const close = (
      <button type="button" class="plain" aria-label={t.close} onClick={() => chat.forgive()}>
        <Icon name="close" />
      </button>
    );
    lines.push({ key: "refusal", text: chat.refusal, action: close, alert: true });
  }
  if (state === "stopped") {
    const replaced = isKind(err, "replaced");
    const lost = isStoreError(err); // no client goes on after that, so a new one is needed
    lines.push({
      key: "stopped",
      text: lost ? t.storageTrouble(reasonOf(err)) : replaced ? t.replaced : t.stopped(reasonOf(err)),
      action: (
        <button type="button" onClick={lost ? () => location.reload() : again}>
          {lost ? t.reload : replaced ? t.useHere : t.tryNow}
        </button>
      ),
      alert: true,
    });
  } else if (state === "offline") {
    lines.push({ key: "offline", text: t.offline });
  } else if (state === "waiting" && isKind(err, "unauthorized")) {
    lines.push({ key: "token", text: t.signInEnded, alert: true });
  } else if (!connected && late) {
    const seconds = Math.max(1, Math.ceil((retryAt - now) / 1000));
    lines.push(
      state === "waiting" && isKind(err, "overloaded")
        ? { key: "waiting", text: t.busy(seconds) } // no button: a busy server is left alone until then
        : state === "waiting" && retryAt > now + 3000
          ? {
              key: "waiting",
              text: t.waitingToConnect(seconds),
              action: (
                <button type="button" onClick={again}>
                  {t.tryNow}
                </button>
              ),
            }
          : { key: "connecting", text: t.connecting },
    );
  }
  return (
    <div class="banners">
      {lines.map((l) => (
        <div key={l.key} class={`banner ${l.key}`} role={l.alert ? "alert" : l.key === "waiting" ? undefined : "status"}>
          <span>{l.text}</span>
          {l.action}
        </div>
      ))}
    </div>
  );
}
