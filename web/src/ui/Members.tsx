import { useEffect, useState } from "preact/hooks";
import { reasonOf } from "../chat";
import type { Room } from "../room";
import { useSignal } from "../signal";
import { t } from "../words";
import { Avatar } from "./Avatar";
import { Dialog } from "./Dialog";
import { namesIn } from "./NewChat";

function People({ names, note }: { names: readonly string[]; note?: (name: string) => string }) {
  return (
    <ul class="people">
      {names.map((name) => (
        <li key={name}>
          <Avatar name={name} />
          <span dir="auto">{name}</span>
          <span class="quiet">{note?.(name)}</span>
        </li>
      ))}
    </ul>
  );
}

/** Who is in a group; people can be added, and the person can leave. */
export function Members({ room, onClose }: { room: Room; onClose: () => void }) {
  useSignal(room.changed);
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const [leaving, setLeaving] = useState(false);
  const add = (e: Event): void => {
    e.preventDefault();
    try {
      const names = namesIn(text);
      setText("");
      void room.add(names);
    } catch (err) {
      setError(reasonOf(err));
    }
  };
  return (
    <Dialog title={t.memberCount(room.members.length)} onClose={onClose}>
      <People names={room.members} note={(name) => (name === room.owner ? t.owner : name === room.me ? t.you : "")} />
      <form class="row" onSubmit={add}>
        <input
          aria-label={t.addMembers}
          placeholder={t.addMembers}
          autocapitalize="none"
          autocomplete="off"
          value={text}
          onInput={(e) => {
            setText(e.currentTarget.value);
            setError("");
          }}
        />
        <button disabled={text.trim() === ""}>{t.add}</button>
      </form>
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {leaving ? (
        <div class="sure">
          <p>{t.leaveSure}</p>
          <button type="button" onClick={() => setLeaving(false)}>
            {t.cancel}
          </button>
          <button
            type="button"
            class="danger"
            onClick={() => {
              void room.leave();
              onClose();
            }}
          >
            {t.leave}
          </button>
        </div>
      ) : (
        <button type="button" class="danger" onClick={() => setLeaving(true)}>
          {t.leave}
        </button>
      )}
    </Dialog>
  );
}

/** Who of a group has read a message. */
export function Readers({ room, seq, onClose }: { room: Room; seq: number; onClose: () => void }) {
  const [readers, setReaders] = useState<{ read: string[]; not: string[] }>();
  const [error, setError] = useState("");
  useEffect(() => {
    room.readers(seq).then(setReaders, (err: unknown) => setError(reasonOf(err)));
  }, [room, seq]);
  return (
    <Dialog title={t.whoRead} onClose={onClose}>
      {error && <p class="error">{error}</p>}
      {readers && (
        <>
          <h3>{t.hasRead}</h3>
          <People names={readers.read} />
          <h3>{t.notRead}</h3>
          <People names={readers.not} />
        </>
      )}
    </Dialog>
  );
}
