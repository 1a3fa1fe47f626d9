import { type Entry, EntryKind, type UserID } from "@pim-im/client";
import { t } from "./words";

/** Returns what an entry that is no message says, in one line; undefined if the entry is no line at all. */
export function eventText(e: Entry, me: UserID): string | undefined {
  const name = (u: UserID): string => (u === me || u === "" ? t.you : u);
  const who = name(e.sender);
  const list = e.members.map(name).join(", ");
  const asked = e.invited.map(name).join(", ");
  const invites = asked === "" ? "" : t.invited(who, asked);
  const alone = e.members.length === 1 && e.members[0] === e.sender;
  switch (e.kind) {
    case EntryKind.message:
    case EntryKind.edit:
    case EntryKind.recall:
    case EntryKind.reaction:
    case EntryKind.pin:
    case EntryKind.command:
      return undefined;
    case EntryKind.create: {
      const others = e.members.filter((u) => u !== e.sender).map(name);
      return both(others.length > 0 || invites === "" ? t.createdGroup(who, others.join(", ")) : "", invites);
    }
    case EntryKind.join:
      return both(list === "" ? "" : alone ? t.joined(who) : t.added(who, list), invites);
    case EntryKind.leave: {
      const ends = e.invited.length === 1 && e.invited[0] === e.sender ? t.declined(who) : t.uninvited(who, asked);
      return both(list === "" ? "" : alone ? t.leftGroup(who) : t.removed(who, list), asked === "" ? "" : ends);
    }
    case EntryKind.erase:
      return t.erasedAll(who);
    case EntryKind.retain:
      return t.retains(who, Math.round(e.retain / 86_400_000));
    default:
      return t.somethingElse(who);
  }
}

/** Joins what an entry did to members and to those who are invited; either may be empty. */
function both(members: string, invited: string): string {
  return [members, invited].filter((text) => text !== "").join(" · ");
}
