import { type Asks } from "./ask.js";
import { type PIMMembersResp } from "./frames.js";

/** Takes the answer to an AskMembers. */
export function named(s: Asks, m: PIMMembersResp): void {
  const ask = s.active.get(m.requestId);
  if (ask?.input.type !== "askMembers") {
    return;
  }
  s.hand(ask, {
    id: ask.input.id,
    members: {
      members: m.members.map((one) => ({ user: one.user, since: one.since, at: one.sinceMs })),
      owner: m.owner,
      next: m.nextAfter,
    },
  });
}
