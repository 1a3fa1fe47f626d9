import { PimError } from "../pim/index.js";
import { Code } from "../wire/index.js";
import { type Engine } from "./engine.js";
import { retreat } from "./link.js";

const errRefused = new PimError("unauthorized", "a token was refused a moment ago");

/**
 * Reports whether the server refuses the token. The close code says so; if there is none, cause does,
 * the server's last PIMError that answered no request.
 */
export function tokenRefused(code: number, cause: PimError | undefined): boolean {
  return code === Code.unauthorized || (code === 0 && cause?.kind === "unauthorized");
}

/**
 * Reports whether all servers are spared a dial now, because they are busy, or because one refused a
 * token a moment ago. Then the dial is set for later. Otherwise an app that reconnects whenever it hears
 * of a refusal would hammer at the server.
 */
export function spared(e: Engine): boolean {
  const now = e.fx.now.mono;
  const free = e.route.freeAt();
  const until = e.backoff.sparedUntil(now) ?? 0;
  const at = Math.max(until, free.until);
  if (at <= now) {
    return false;
  }
  if (e.link.phase === "waiting" && e.link.dialAt <= at) {
    // the next round begins by then anyway
    return true;
  }
  e.link.phase = "waiting";
  e.link.dialAt = at;
  e.fx.emit({ type: "state", state: "waiting", err: until > free.until ? errRefused : free.why, retryIn: at - now });
  return true;
}

/** Takes NoToken. */
export function noToken(e: Engine, attempt: number, err: PimError): void {
  if (e.race.withoutToken(attempt, err) !== "over") {
    return;
  }
  const now = e.fx.now.mono;
  const asked = e.backoff.askedFor(err);
  const wait = err.kind === "unauthorized" ? e.backoff.refused(now) : e.backoff.lost(now);
  retreat(e, err, Math.max(asked, wait));
}
