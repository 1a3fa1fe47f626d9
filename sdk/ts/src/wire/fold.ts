import { PimError } from "../pim/errors.js";
import { type Edit, type Fold, type Mark, noEdit, noMark, type Reaction } from "../pim/fold.js";
import { compareText } from "../pim/text.js";
import { type Init, type Plain, readMessage, writeMessage } from "./codec.js";
import type { Messages } from "./pb/pim_fields.js";

/** A fold as a frame has it. */
export type FoldBody = Plain<Messages["Fold"]>;

/** Returns the encoding of f. */
export function encodeFold(f: Fold): Uint8Array {
  const { edit } = f;
  return writeMessage("Fold", {
    target: f.target,
    upto: f.upto,
    edit: edit.seq === 0 ? undefined : { seq: edit.seq, by: edit.by, timeMs: edit.time, payload: edit.payload },
    recall: markBody(f.recall),
    pin: markBody(f.pin),
    reactions: reactionBodies(f.reactions),
  });
}

function markBody(m: Mark): Init<Messages["Mark"]> | undefined {
  return m.seq === 0 ? undefined : { seq: m.seq, by: m.by, timeMs: m.time, removed: m.removed };
}

/** Returns reactions, which ascend by text, under one text each. */
function reactionBodies(reactions: readonly Reaction[]): Init<Messages["Reaction"]>[] {
  const bodies: { text: string; by: { user: string; seq: number; removed: boolean }[] }[] = [];
  for (const { text, user, seq, removed } of reactions) {
    const last = bodies.at(-1);
    if (last?.text === text) {
      last.by.push({ user, seq, removed });
    } else {
      bodies.push({ text, by: [{ user, seq, removed }] });
    }
  }
  return bodies;
}

/** Reads what encodeFold wrote. It throws as readMessage and readFold do. The result shares nothing with bytes. */
export function parseFold(bytes: Uint8Array): Fold {
  return readFold(readMessage("Fold", bytes));
}

/**
 * Returns m as a Fold, which takes over the payload of m's edit. It throws a PimError of kind "invalid" if m has no target, or
 * reactions that do not ascend.
 */
export function readFold(m: FoldBody): Fold {
  if (m.target === 0) {
    throw new PimError("invalid", "a fold of no message");
  }
  const reactions = m.reactions.flatMap(({ text, by }) =>
    by.map(({ user, seq, removed }): Reaction => ({ text, user, seq, removed })),
  );
  // A reaction that nobody has given counts too: its text stands between those of its neighbours.
  const texts = m.reactions.map((r) => r.text);
  m.reactions.forEach((r, i) => {
    const users = r.by.map((by) => by.user);
    if (users.length > 0 && !(ascends(texts, i) && users.every((_, k) => ascends(users, k)))) {
      throw new PimError("invalid", `fold of seq ${m.target}: reaction ${JSON.stringify(r.text)} is not in order`);
    }
  });
  return {
    target: m.target,
    upto: m.upto,
    edit: readEdit(m.edit),
    recall: readMark(m.recall),
    pin: readMark(m.pin),
    reactions,
  };
}

/** Reports whether the text at i comes behind the one before it. */
function ascends(texts: readonly string[], i: number): boolean {
  const text = texts[i];
  const before = texts[i - 1];
  return text === undefined || before === undefined || compareText(before, text) < 0;
}

function readEdit(m: FoldBody["edit"]): Edit {
  return m === undefined || m.seq === 0 ? noEdit : { seq: m.seq, by: m.by, time: m.timeMs, payload: m.payload };
}

function readMark(m: FoldBody["pin"]): Mark {
  return m === undefined ? noMark : { seq: m.seq, by: m.by, time: m.timeMs, removed: m.removed };
}
