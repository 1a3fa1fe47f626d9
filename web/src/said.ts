import { type Entry, EntryKind, type UserID } from "@pim-im/client";
import { t } from "./words";

/** Returns what an entry that is no message says, in one line; undefined if the entry is no line at all. */
export function eventText(e: Entry, me: UserID): string | undefined {
  const name = (u: UserID): string => (u === me || u === "" ? t.you : u);
  const who = name(e.sender);
  const list = e.members.map(name).join(", ");
  const alone = e.members.length === 1 && e.members[0] === e.sender;
  switch (e.kind) {
    case EntryKind.message:
    case EntryKind.edit:
    case EntryKind.recall:
    case EntryKind.reaction:
    case EntryKind.pin:
    case EntryKind.command:
      return undefined;
    case EntryKind.create:
      return t.createdGroup(
        who,
        e.members
          .filter((u) => u !== e.sender)
          .map(name)
          .join(", "),
      );
    case EntryKind.join:
      return alone ? t.joined(who) : t.added(who, list);
    case EntryKind.leave:
      return alone ? t.leftGroup(who) : t.removed(who, list);
    case EntryKind.erase:
      return t.erasedAll(who);
    case EntryKind.retain:
      return t.retains(who, Math.round(e.retain / 86_400_000));
    default:
      return t.somethingElse(who);
  }
}
