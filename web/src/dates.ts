import { language, t } from "./words";

const time = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(language, { weekday: "long" });
const dayAndMonth = new Intl.DateTimeFormat(language, { day: "numeric", month: "long" });
const whole = new Intl.DateTimeFormat(language, { day: "numeric", month: "long", year: "numeric" });
const short = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium" });

/** Returns the number of ms's day in the calendar of this machine. */
export function dayOf(ms: number): number {
  const d = new Date(ms);
  return Math.round(Date.UTC(d.getFullYear(), d.getMonth(), d.getDate()) / 86_400_000);
}

/** Returns the hour and minute. */
export function clockOf(ms: number): string {
  return time.format(ms);
}

/** Returns day and time, in full. */
export function exactly(ms: number): string {
  return exact.format(ms);
}

/** Returns what a line between two days says. */
export function dayLine(ms: number, now = Date.now()): string {
  const ago = dayOf(now) - dayOf(ms);
  if (ago === 0) {
    return t.today;
  }
  if (ago === 1) {
    return t.yesterday;
  }
  if (ago > 1 && ago < 7) {
    return weekday.format(ms);
  }
  return new Date(ms).getFullYear() === new Date(now).getFullYear() ? dayAndMonth.format(ms) : whole.format(ms);
}

/** Returns the time as a list shows it: of today the clock, of another day the day. */
export function briefly(ms: number, now = Date.now()): string {
  const ago = dayOf(now) - dayOf(ms);
  return ago === 0 ? clockOf(ms) : ago === 1 ? t.yesterday : short.format(ms);
}
