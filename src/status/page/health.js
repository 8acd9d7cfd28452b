// The top of the page: can the schedule be trusted, has every site been told, and how
// is everything else.

/** What to do while the schedule may be wrong. */
const WHEN_STALE = "Check the API, the key and the network. Until it is fresh again, ask Voltus which sites must curtail, and curtail those by hand.";

/** The verdict on the schedule: what it is called, how it is coloured, and why. */
function verdictOn(status) {
  const { sync, store } = status;
  const interval = sync.poll_interval_seconds * 1000;
  const error = sync.last_poll?.error;
  if (state.lostAt !== null) {
    return ["lost", "Not connected to the daemon",
      `Nothing has been answered since ${timeText(state.lostAt + clockAhead, true)}. What is shown is what was last known.`];
  }
  if (store && !store.ok) return ["stale", "The schedule cannot be written", store.error];
  const since = sync.last_successful_poll ?? null;
  if (sync.state === "stale") {
    const from = since === null ? Date.parse(status.started_at) : Date.parse(since);
    const reason = error ? `The last poll failed: ${error}.` : "No poll has ended.";
    return ["stale", `Stale since ${timeText(from + 3 * interval, true)}`,
      `No poll has succeeded for ${length(nowMs() - from)}, so the schedule may be wrong. ${reason} ${WHEN_STALE}`];
  }
  if (sync.state === "starting") {
    return ["starting", "Starting",
      error ? `No poll has succeeded yet: ${error}.` : "The first poll has not ended yet."];
  }
  const mass = sync.mass_absence;
  if (mass) {
    return ["stale", `The API's list lacks ${count(mass.absent)} of ${count(mass.live)} live dispatches`,
      `For ${length(mass.seconds * 1000)}. Nothing is cancelled for that until it has lasted ten minutes. Check the API and the key.`];
  }
  if (sync.slowdown) {
    const { since: from, reason, silent_until: silent } = sync.slowdown;
    const until = silent ? ` Nothing is sent to it until ${timeText(Date.parse(silent), true)}.` : "";
    return ["wavering", "Fresh, but requests to the API are slowed down",
      `Since ${timeText(Date.parse(from), true)}: ${reason}.${until} Webhooks may be answered late.`];
  }
  if (sync.unannounced_changes) {
    return ["wavering", "Fresh, but no webhook comes", status.verdict.schedule.text];
  }
  if (sync.registration?.error && !sync.registration.registered) {
    return ["wavering", "Fresh, but the webhook is not registered", status.verdict.schedule.text];
  }
  if (error) {
    return ["wavering", "Fresh, but the last poll failed",
      `${error}. It counts as stale if no poll succeeds by ${timeText(Date.parse(since) + 3 * interval, true)}.`];
  }
  return ["fresh", "The schedule can be trusted",
    `Confirmed by a poll ${length(nowMs() - Date.parse(since))} ago, revision ${status.schedule.revision}.`];
}

/** The verdict on deliveries: how grave it is, what it is called, and why. */
function toldVerdict(status) {
  const { level, text } = status.verdict.told;
  const due = status.due_commands.length;
  if (status.untold_sites) return [level, `${plural(status.untold_sites, "site")} not told`, text.replace(/^\d+ sites? not told: /, "")];
  if (due) return [level, `${plural(due, "command")} due and not sent`, text];
  if (!status.delivery.length) return [level, "Nobody is told", text];
  if (status.unrouted_sites) return [level, `${plural(status.unrouted_sites, "site")} routed to no sink`, text];
  if (level !== "ok" && (status.unrouted_commands || status.inventory.unrouted_sites)) return [level, "Sites are routed to no sink", text];
  if (level === "ok") return [level, text.replace(/\.$/, ""), ""];
  return [level, "A receiver is not there or takes no events", text];
}

const LEVELS = { fresh: "ok", wavering: "warning", starting: "unknown", stale: "error", lost: "error" };

function showHealth() {
  const status = state.status;
  if (!status) {
    if (state.lostAt !== null) {
      say("verdict", "Not connected to the daemon");
      say("why", "It has not answered since this page was opened.");
      $("trust").dataset.trust = "lost";
      $("on-schedule").dataset.level = "error";
    }
    return;
  }
  const [trust, verdict, why] = verdictOn(status);
  const [level, told, toldWhy] = toldVerdict(status);
  $("trust").dataset.trust = trust;
  $("on-schedule").dataset.level = LEVELS[trust];
  $("on-delivery").dataset.level = level;
  // The graver verdict stands first.
  $("on-delivery").classList.toggle("first", level === "error" && LEVELS[trust] !== "error");
  say("verdict", verdict);
  say("why", why);
  say("told", told);
  say("told-why", toldWhy);
  say("version", status.version);
  showWhere(status);
  showLink();
  const calm = `${status.schedule.active} active`;
  const alarm = LEVELS[trust] === "error" ? { stale: "stale", lost: "not connected" }[trust] : level === "error" ? told : null;
  document.title = `${alarm ? `⚠ ${alarm}` : trust === "starting" ? `… ${calm}` : calm} · dispatchd`;

  const { sync } = status;
  const soon = Date.parse(sync.next_poll) - nowMs();
  say("fact-next", soon > 0 ? `in ${length(soon)}` : "now");
  say("sub-next", `every ${length(sync.poll_interval_seconds * 1000)}`);
  $("fact-next").title = utc(Date.parse(sync.next_poll));

  sayAgo("fact-poll", sync.last_poll?.at);
  say("sub-poll", sync.last_poll ? `${sync.last_poll.ok ? "succeeded" : "failed"} after ${count(sync.last_poll.duration_ms)} ms` : "");
  tint("fact-poll", sync.last_poll && !sync.last_poll.ok);

  const hooks = sync.webhooks;
  sayAgo("fact-webhook", hooks.last_at);
  const parts = [`${count(hooks.received)} received`];
  if (hooks.failed) parts.push(`${count(hooks.failed)} failed`);
  if (hooks.rejected) parts.push(`${count(hooks.rejected)} rejected`);
  if (hooks.wrong_path) parts.push(`${count(hooks.wrong_path)} to a wrong path or with a wrong secret`);
  say("sub-webhook", parts.join(", "));

  say("fact-missed", count(sync.missed_webhooks));
  say("sub-missed", sync.unannounced_changes ? `none came for ${plural(sync.unannounced_changes, "change")}`
    : sync.polled_only_changes && !sync.registration ? "none has come; if one is registered by hand, it does not get in"
    : sync.missed_webhooks ? "healed by polls" : hooks.received ? "none lost" : "none has come yet");
  tint("fact-missed", sync.missed_webhooks > 0 || sync.unannounced_changes > 0, "warn");
  say("fact-heals", count(sync.heals));

  const { scheduled, active } = status.schedule;
  say("fact-dispatches", `${count(active)} active`);
  say("sub-dispatches", `${count(scheduled)} scheduled`);
  showSinks(status.delivery);
  showInventory(status.inventory);
}

/** Whose daemon this is: so that nobody takes the sandbox for production. */
function showWhere({ api, node, role }) {
  const text = `${api.host} ${api.environment} ${node} ${role}`;
  if ($("where").dataset.of === text) return;
  $("where").dataset.of = text;
  $("where").replaceChildren(
    h("span", { class: `chip environment ${api.environment}` }, api.environment),
    h("span", null, named(api.host)),
    h("span", { class: "dim" }, named(node), role === "leader" ? "" : `, ${role}`));
}

function tint(id, is, kind = "bad") {
  $(id).classList.toggle(kind, Boolean(is));
}

/** How a sink is doing, the worst first. */
function conditionOf(sink) {
  if (sink.state === "paused") return { rank: 0, kind: "bad", word: "wants no more" };
  if (sink.state === "failing") return { rank: 1, kind: "bad", word: "failing" };
  if (sink.state === "retrying") return { rank: 2, kind: "warn", word: "retrying" };
  if (sink.pending) return { rank: 3, kind: "busy", word: "delivering" };
  return { rank: 4, kind: "good", word: "up to date" };
}

let sinksShown = "";

function showSinks(sinks) {
  // Redrawn only if it differs: a pointer may rest on it.
  const shown = JSON.stringify(sinks);
  if (shown === sinksShown) return;
  sinksShown = shown;
  const items = sinks
    .map((sink) => ({ sink, condition: conditionOf(sink) }))
    .sort((a, b) => a.condition.rank - b.condition.rank)
    .map(({ sink, condition }) => h("li", { class: "sink", "data-kind": condition.kind },
      h("span", { class: "sink-name" }, named(sink.sink)),
      h("span", { class: "chip" }, condition.word),
      h("span", { class: "sink-count" }, `${count(sink.pending)} pending`),
      sink.pending > 0 && sink.oldest_pending_seconds !== null
        ? h("span", { class: "dim" }, `oldest ${length(sink.oldest_pending_seconds * 1000)}`) : null,
      h("span", { class: "dim" }, `${count(sink.delivered)} delivered`),
      sink.failed_attempts ? h("span", { class: "dim" }, plural(sink.failed_attempts, "failed attempt")) : null,
      sink.last_error ? h("span", { class: "sink-error" }, named(sink.last_error)) : null));
  $("sinks").replaceChildren(...(items.length ? items : [h("li", { class: "dim" }, "No sink is configured: nobody is told.")]));
}

function showCurtailed() {
  const all = state.sites.sites;
  const held = all.filter((site) => site.state === "curtailed");
  const kw = held.reduce((sum, site) => sum + (site.commitment_kw ?? 0), 0);
  say("fact-curtailed", `${count(held.length)}`);
  say("sub-curtailed", held.length ? `of ${count(all.length)}, ${kilowatts(kw)}` : `of ${count(all.length)}`);
}

function showLink() {
  const link = $("link");
  let kind = "live";
  let text = "Live";
  if (state.lostAt !== null) {
    kind = "lost";
    text = "Disconnected, trying again";
  } else if (!state.following) {
    kind = "asking";
    text = state.status ? `No live stream: asking every ${length(FALLBACK_MS)}` : "Connecting";
  } else if (state.status && state.status.verdict.schedule.level === "error") {
    kind = "asking";
    text = "Live, but the schedule may be wrong";
  }
  link.dataset.link = kind;
  say("link", text);
}
