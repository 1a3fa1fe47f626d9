import { checkUserID, direct, type UserID } from "@pim-im/client";
import { useState } from "preact/hooks";
import type { Chat } from "../chat";
import { reasonOf } from "../chat";
import { t } from "../words";
import { Dialog } from "./Dialog";

/** Returns the names in text; spaces and commas of any script are between them. It throws a PimError for one that is none. */
export function namesIn(text: string): UserID[] {
  const names = [...new Set(text.split(/[\s,;，、；]+/u).filter(Boolean))];
  names.forEach(checkUserID);
  return names;
}

/** Begins a conversation: with one person, or a group. */
export function NewChat({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const [group, setGroup] = useState(false);
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const begin = async (e: Event): Promise<void> => {
    e.preventDefault();
    try {
      const names = namesIn(text);
      if (group) {
        const sending = await chat.me.createGroup(names);
        onClose();
        sending.wait().then(
          ({ conversation }) => (location.hash = encodeURIComponent(conversation)),
          (err: unknown) => chat.refuse(err),
        );
      } else {
        const [name] = names;
        if (names.length !== 1 || name === undefined) {
          throw new Error(t.namesRule);
        }
        location.hash = encodeURIComponent(direct(chat.me.user, name));
        onClose();
      }
    } catch (err) {
      setError(reasonOf(err));
    }
  };
  const tab = (label: string, on: boolean) => (
    <label>
      <input type="radio" name="kind" checked={group === on} onChange={() => setGroup(on)} />
      <span>{label}</span>
    </label>
  );
  return (
    <Dialog title={t.newChat} onClose={onClose}>
      <form class="new" onSubmit={(e) => void begin(e)}>
        <div class="tabs" role="radiogroup" aria-label={t.newChat}>
          {tab(t.newDirect, false)}
          {tab(t.newGroup, true)}
        </div>
        <label>
          <span>{group ? t.groupMembers : t.withWhom}</span>
          <input
            name="names"
            autoFocus
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            placeholder={group ? "bob, carol" : "bob"}
            value={text}
            aria-describedby="names-hint"
            onInput={(e) => {
              setText(e.currentTarget.value);
              setError("");
            }}
          />
        </label>
        <p id="names-hint" class={error ? "error" : "quiet"} role={error ? "alert" : undefined}>
          {error || (group ? t.groupMembersHint : t.namesRule)}
        </p>
        <button class="primary" disabled={text.trim() === ""}>
          {group ? t.create : t.signIn}
        </button>
      </form>
    </Dialog>
  );
}
