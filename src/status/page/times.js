// Times are shown in the browser's zone, with UTC at hand; "now" is the
// daemon's, since it is the one who acts.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const localZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const ZONE = "dispatchd.utc";

/** Whether times are shown in UTC; else in the browser's zone. */
let inUtc = false;
try { inUtc = localStorage.getItem(ZONE) === "true"; } catch { /* the storage is forbidden */ }

let clockFormat;
let secondsFormat;
let dayFormat;

function setZone(utc) {
  inUtc = utc;
  try { localStorage.setItem(ZONE, String(utc)); } catch { /* kept here alone */ }
  const timeZone = utc ? "UTC" : localZone;
  const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone };
  clockFormat = new Intl.DateTimeFormat(undefined, clock);
  secondsFormat = new Intl.DateTimeFormat(undefined, { ...clock, second: "2-digit" });
  dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", timeZone });
}
setZone(inUtc);

const zoneName = () => (inUtc ? "UTC" : localZone);
/** The zone as a difference to UTC, as short as it is unmistakable. */
const zoneShort = () => {
  if (inUtc) return "UTC";
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "shortOffset", timeZone: localZone }).formatToParts(nowMs());
  return parts.find((part) => part.type === "timeZoneName")?.value.replace("GMT", "UTC") ?? localZone;
};

/** How far the daemon's clock is ahead of the browser's, in ms. */
let clockAhead = 0;

/** Now by the daemon's clock, in ms. */
const nowMs = () => Date.now() + clockAhead;

/** Compares our clock with the daemon's. Small differences are the way there, and would make the line for now tremble. */
function setClock(iso) {
  const ahead = Date.parse(iso) - Date.now();
  if (Math.abs(ahead - clockAhead) > 500) clockAhead = ahead;
}

const utc = (ms) => new Date(ms).toISOString().replace("T", " ").replace(".000Z", "Z").replace("Z", " UTC");

const sameDay = (a, b) => dayFormat.format(a) === dayFormat.format(b);

/** A time as text: the day only if it is not today. */
function timeText(ms, seconds = false) {
  const clock = (seconds ? secondsFormat : clockFormat).format(ms);
  return sameDay(ms, nowMs()) ? clock : `${dayFormat.format(ms)}, ${clock}`;
}

/** A time as an element that shows UTC on hover. */
function when(iso, seconds = false) {
  const ms = Date.parse(iso);
  if (Number.isNaN(ms)) return named(String(iso));
  return h("time", { datetime: iso, title: utc(ms) }, timeText(ms, seconds));
}

/** A length of time in its two largest units. */
function length(ms) {
  const total = Math.max(0, Math.round(ms / 1000));
  if (total < 60) return `${total} s`;
  const minutes = Math.floor(total / 60);
  if (minutes < 60) return minutes < 10 && total % 60 ? `${minutes} min ${total % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} d`;
}

/** Sets an element to how long ago something was, with the time itself on hover. */
function sayAgo(id, iso) {
  const element = $(id);
  if (!iso) {
    say(id, "never");
    element.removeAttribute("title");
    return;
  }
  const ms = Date.parse(iso);
  say(id, `${length(nowMs() - ms)} ago`);
  element.title = `${timeText(ms, true)} here, ${utc(ms)}`;
}
