import { CommandKind, entityOf, makeCommand, own, type PimError, type Seq, type UserID } from "../pim/index.js";
import { compareText } from "../pim/text.js";
import { jobOf, wantPull } from "./catchup.js";
import { type Check, type Task } from "./check.js";
import { showSetting } from "./commands.js";
import { aim, type ConversationState, isOwn, unknownSeq } from "./conversation.js";
import { type Engine } from "./engine.js";
import { erasuresBack } from "./erase.js";
import { doubtFolds, foldsBack, referredBack } from "./folds.js";
import { dropAhead, keepFormer } from "./former.js";
import { setHoles } from "./gaps.js";
import { holesWithout, soundHoles } from "./holes.js";
import { most } from "./pulls.js";
import { readAgain } from "./reading.js";
import { readInList, readUpTo } from "./reads.js";
import { counts, standingOf, startSync } from "./sync.js";
import { frontBack, mayBeLost, trimmed } from "./trim.js";
import { giveUpExpected } from "./wishes.js";

// The server's store may go back: it is restored from a backup, begun anew, or another store is behind
// the same name. Then seqs are used a second time, and what a device knows of them does not hold. The
// signs are: Welcome names another store, or a lower acknowledgement serial than before; a conversation
// is shorter than it was; a message is answered at a seq where another entry is stored. A sign is not
// believed, since a server that was merely killed gives some of them. It is a doubt, which costs a pull
// and changes nothing by itself.
//
// A doubt about a conversation is settled by comparing the device's entries with the server's (Check).
// Above the last common entry the conversation is taken back (rewind). Until then nothing of it is
// acknowledged, and pushed entries are not taken, but pulled afterwards. The user's own log is compared
// last, and taken back as a whole: pulls leave superseded commands out, so an entry in common does not
// prove that the device has the commands below it.

/** Begins the comparisons anew on a new connection. */
export function resumeDoubts(e: Engine): void {
  e.doubts.opened();
  e.fetches.forget();
  const { doubt } = e.fx.meta;
  for (const c of [...e.conversations.byID.values()].sort((a, b) => compareText(a.id, b.id))) {
    c.checked = false;
    c.reading = false;
    if (c.doubt !== undefined) {
      e.doubts.add(c, most(e));
    } else if (doubt && c.followed && c.known === 0 && !isOwn(c)) {
      doubtFolds(e, c);
      dropAhead(e, c);
      unhear(e, c, 0);
      aim(e, c, unknownSeq);
    } else if (doubt && c.followed) {
      doubtOf(e, c);
    }
  }
  if (e.doubts.count > 0) {
    doubtOwn(e);
  }
  believe(e);
}

/** Takes a sign that the server has lost entries of c. */
export function suspect(e: Engine, c: ConversationState): void {
  const { meta } = e.fx;
  if (!meta.doubt) {
    meta.doubt = true;
    e.fx.metaDirty = true; // stored: the process may die before the comparison ends
  }
  doubtOf(e, c);
  doubtOwn(e);
  believe(e);
}

/** Queues the user's own log for comparison. */
function doubtOwn(e: Engine): void {
  const c = e.conversations.get(own(e.fx.meta.user));
  if (c !== undefined) {
    doubtOf(e, c);
  }
}

/**
 * Queues c for comparison. A conversation of which nothing is known needs none. The own log always
 * does: it waits for all others, because its read positions are seqs of theirs.
 */
function doubtOf(e: Engine, c: ConversationState): void {
  if ((c.known === 0 && !isOwn(c)) || c.doubt !== undefined) {
    return;
  }
  e.pulls.forget(c);
  dropAhead(e, c);
  e.conversations.setTarget(c, 0);
  e.acks.remove(c);
  e.doubts.add(c, most(e));
}

/** Does what check, the comparison of c, needs next. */
export function goOn(e: Engine, c: ConversationState, check: Check, task: Task): void {
  switch (task) {
    case "readStored":
      e.fetches.ask(c, { upTo: check.at, former: false, skip: 0, limit: check.page }, (entries) => {
        if (c.doubt !== undefined) {
          goOn(e, c, c.doubt, c.doubt.read(entries));
        }
      });
      break;
    case "askServer":
      wantPull(e, c);
      break;
    case "decided":
      decide(e, c, check);
      break;
  }
}

/** Takes the server's refusal of check, the comparison of c. */
export function incomparable(e: Engine, c: ConversationState, check: Check, err: PimError): void {
  if (err.kind === "not_member" || err.kind === "not_found") {
    // the group is not there
    check.nothing();
  } else {
    // the next connection tries again
    check.putOff();
    e.doubts.unsure = true;
  }
  decide(e, c, check);
}

/** Ends c's doubt; d is its comparison. */
function decide(e: Engine, c: ConversationState, d: Check): void {
  e.doubts.trust(c);
  c.checked = true;
  c.acked = 0; // what was acknowledged may be gone as well
  if (isOwn(c) && (d.lost || c.newest > c.known)) {
    // Pulls leave out what a later command has superseded. That later command may have been above the
    // position, and be gone now; then what was left out is in force again.
    rewind(e, c, 0, 0);
  } else if (d.lost || d.newest < c.known) {
    rewind(e, c, d.same.seq, d.same.count);
  } else if (d.same.seq === c.known) {
    unhear(e, c, c.counted === c.known ? c.count : d.same.count);
  }
  doubtFolds(e, c);
  trimmed(e, c, d.front, d.newest);
  const newest = Math.max(d.newest, d.heard);
  if (d.listed !== undefined) {
    readUpTo(e, c);
    counts(e, c, standingOf(d.listed), newest);
    readInList(e, c, false);
  }
  if (e.cfg.watch) {
    aim(e, c, unknownSeq);
  } else if (newest > c.known) {
    c.newest = newest;
    aim(e, c, newest);
    e.fx.touch(c);
  } else if (isUnlisted(e, c)) {
    aim(e, c, unknownSeq);
  } else if (jobOf(e, c) !== undefined) {
    wantPull(e, c);
  }
  e.acks.later(c);
  believe(e);
}

/**
 * Reports whether c is the user's own log, nothing of it is known, and the sync list may not name it:
 * the server leaves out what this device has acknowledged.
 */
export function isUnlisted(e: Engine, c: ConversationState): boolean {
  return isOwn(c) && c.known === 0 && !e.cfg.watch && !e.fx.meta.fullSync;
}

/**
 * Forgets what was heard of c above its position. count is the counting messages up to the position.
 */
function unhear(e: Engine, c: ConversationState, count: number): void {
  const above = c.counted > c.known;
  c.newest = c.known;
  c.counted = c.known;
  c.count = count;
  c.last = undefined;
  c.lastCut = false;
  e.fetches.seekOwn(c, above);
  e.fx.touch(c);
}

/**
 * Ends the doubt about the server's store, if no conversation is in doubt any more and all could be
 * compared. Then the fronts are asked for that were passed over meanwhile.
 */
function believe(e: Engine): void {
  const { meta } = e.fx;
  if (meta.doubt && e.doubts.settled()) {
    meta.doubt = false;
    e.fx.metaDirty = true;
    if (!e.conversations.byID.get(own(meta.user))?.former) {
      e.wishes.believed();
    }
    giveUpExpected(e);
  }
  if (e.doubts.front && e.doubts.settled()) {
    e.doubts.front = false;
    startSync(e);
  }
}

/**
 * Takes c back to the seq to: what was known above it is gone from the server. count is the counting
 * messages up to the seq to.
 */
function rewind(e: Engine, c: ConversationState, to: Seq, count: number): void {
  takeBack(e, c, to, count, e.fx.meta.user);
  mayBeLost(e, c, to + 1);
  keepFormer(e, c);
  if (isOwn(c)) {
    for (const other of e.conversations.byID.values()) {
      other.readTo = Math.min(readUpTo(e, other), other.known); // the log tells it again
    }
    e.wishes.forget(e.settings);
    e.foretold.clear();
  } else {
    unread(e, c, to, count);
    referredBack(e.outbox, c, to);
  }
}

/**
 * Deletes the stored entries of c above the seq to, and keeps aside those that sender sent.
 */
export function takeBack(e: Engine, c: ConversationState, to: Seq, count: number, sender: UserID): void {
  e.fx.out.store.rewinds.push({ conversation: c.id, after: to, sender });
  c.known = to;
  c.newest = to;
  c.counted = to;
  c.count = count;
  c.acked = Math.min(c.acked, to);
  c.readTo = Math.min(c.readTo, to);
  readAgain(e, c, to);
  c.last = undefined;
  c.lastCut = false;
  c.left = false;
  c.recent = 0;
  c.movedAt = e.fx.now.mono;
  e.fetches.seekOwn(c, true);
  setHoles(e, c, soundHoles(holesWithout(c.holes, to, unknownSeq), to));
  frontBack(e, c, to);
  foldsBack(e, c, to);
  erasuresBack(e, c, to);
  e.fx.emit({ type: "rewound", conversation: c.id, after: to });
}

/**
 * Gives up the read positions of c above the seq to: at once those that are in the outbox; and the one
 * in force if the own log is taken back too (Wishes.stillThere).
 */
function unread(e: Engine, c: ConversationState, to: Seq, count: number): void {
  const cmd = makeCommand({ kind: CommandKind.read, subject: c.id, seq: to, count });
  e.wishes.cut(cmd);
  const gone = e.outbox
    .commands(own(e.fx.meta.user), entityOf(cmd))
    .filter((m) => m.command !== undefined && m.command.seq > to);
  for (const m of gone) {
    e.outbox.leave(m, { state: "superseded" });
  }
  if (gone.length > 0) {
    // no command took its place, so nothing else tells the app
    showSetting(e, entityOf(cmd));
  }
}
