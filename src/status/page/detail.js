// One dispatch or one site with its history: what changed from what to what,
// when, and what brought it.

const FIELDS = {
  phase: "Phase", authorized: "Authorized", test: "Test", start_time: "Start", end_time: "End",
  creation_time: "Created upstream", modification_number: "Modification", program: "Program", sites: "Sites", metadata: "Metadata",
};
const TIMES = new Set(["start_time", "end_time", "creation_time"]);
const DEEDS = {
  "dispatch.created": "First seen", "dispatch.updated": "Changed", "dispatch.started": "Started",
  "dispatch.ended": "Ended", "dispatch.cancelled": "Cancelled", "event.skipped": "Event given up",
  "site.override": "By hand",
};
/** How many dispatches of a site are asked for their history. */
const HISTORIES = 8;
const SITES_SHOWN = 12;

/** What is open: `{kind, id}`, or null. */
let opened = null;

const openDispatch = (id) => openDetail("dispatch", id);
const openSite = (id) => openDetail("site", id);

/** What had the focus before the dialog: the element, or what was drawn in its place since. */
let focused = null;

function rememberFocus() {
  const element = document.activeElement;
  focused = { element, table: element?.closest("table")?.id, id: element?.dataset?.id };
}

function giveFocusBack() {
  const { element, table, id } = focused ?? {};
  const again = table && id ? [...$(table).querySelectorAll("button.opener")].find((button) => button.dataset.id === id) : null;
  (element?.isConnected ? element : again ?? $("rows")).focus();
}

function openDetail(kind, id) {
  opened = { kind, id, stamp: null };
  $("detail-body").replaceChildren(h("p", { class: "dim" }, "Asking."));
  say("detail-title", id);
  if (!$("detail").open) {
    rememberFocus();
    $("detail").showModal();
  }
  $("detail-body").scrollTop = 0;
  refreshDetail();
}

/** Draws what is open again if it has changed. */
async function refreshDetail() {
  const asked = opened;
  if (!asked) return;
  const item = asked.kind === "dispatch" ? model.byId.get(asked.id) : model.sites.find((site) => site.id === asked.id);
  if (!item) {
    showDetail(asked.id, h("p", { class: "dim" }, "It is not in the schedule any more."));
    return;
  }
  const of = asked.kind === "dispatch" ? [item] : item.all.map((held) => held.dispatch);
  const stamp = JSON.stringify([item.state, item.untold, item.override, item.until, item.commitment_kw, item.next, of.map((d) => d.last_changed)]);
  if (stamp === asked.stamp) return;
  asked.stamp = stamp;
  const newest = of.slice().sort((a, b) => Date.parse(b.last_changed) - Date.parse(a.last_changed)).slice(0, HISTORIES);
  const histories = await Promise.all(newest.map((dispatch) => historyOf(dispatch.id)));
  // Something else may have been opened meanwhile.
  if (opened !== asked) return;
  const lines = histories.flat();
  if (asked.kind === "dispatch") showDetail(`Dispatch ${item.id}`, dispatchDetail(item), historyList(lines, false));
  else showDetail(siteTitle(item), siteDetail(item), historyList(lines, true, of.length - newest.length));
}

async function historyOf(id) {
  try {
    const reply = await ask(`schedule/${encodeURIComponent(id)}`);
    if (!reply.ok) return [{ problem: `The history of ${id} cannot be shown: the daemon answered ${reply.status}.` }];
    return (await reply.json()).history.map((line, index) => ({ ...line, id, index }));
  } catch {
    return [{ problem: `The history of ${id} cannot be shown: the daemon did not answer.` }];
  }
}

function showDetail(title, ...content) {
  say("detail-title", title);
  const body = $("detail-body");
  const top = body.scrollTop;
  body.replaceChildren(...content);
  body.scrollTop = top;
}

const fact = (name, ...value) => h("div", null, h("dt", null, name), h("dd", null, ...value));

function dispatchDetail(dispatch) {
  const { program } = dispatch;
  const extras = Object.keys(dispatch.metadata ?? {}).length > 0;
  return h("div", null,
    h("p", { class: "chips" }, phaseChip(dispatch.phase), dispatch.test ? h("span", { class: "chip test" }, "test") : null,
      dispatch.cancel_reason ? h("span", { class: "dim" }, dispatch.cancel_reason) : null,
      h("button", { type: "button", class: "to-report", onclick: () => openReport(dispatch.id) }, "Report")),
    h("dl", { class: "facts small" },
      fact("Start", when(dispatch.start_time, true)),
      fact("End", dispatch.end_time === null ? "no end yet" : when(dispatch.end_time, true)),
      fact("Program", named([program.name, program.market, program.program_type].filter(Boolean).join(" · ") || "–")),
      fact("Commitment", kilowatts(dispatch.kw)),
      fact("Modification", dispatch.modification_number === null ? "–" : String(dispatch.modification_number)),
      fact("First seen", when(dispatch.first_seen, true), " ", sourceChip(dispatch.discovered_by)),
      fact("Last confirmed", when(dispatch.last_confirmed, true)),
      extras ? fact("Metadata", h("code", null, JSON.stringify(dispatch.metadata))) : null),
    h("h3", null, plural(dispatch.sites.length, "site")),
    shortened(dispatch.sites, (site) => h("li", null,
      linkTo(() => openSite(site.id), site.name || site.customer_location_id || site.id),
      h("span", { class: "dim" }, kilowatts(site.commitment)))));
}

function siteDetail(site) {
  const held = site.all.slice().sort((a, b) => b.dispatch.start - a.dispatch.start);
  return h("div", null,
    h("p", { class: "chips" }, stateChips(site)),
    untoldBy(site),
    byHand(site.override),
    (site.sinks ?? []).length === 0 ? h("p", { class: "warn" }, "Its commands go to no sink.") : null,
    h("dl", { class: "facts small" },
      fact("Id", named(site.id)),
      fact("Location", named(site.customer_location_id || "–")),
      fact("Since", when(site.since, true)),
      fact("Until", site.until ? when(site.until, true) : site.state === "curtailed" ? "no end yet" : "–"),
      fact("Commitment", kilowatts(site.commitment_kw)),
      fact("Sinks", (site.sinks ?? []).length ? site.sinks.flatMap((sink, i) => [i ? ", " : "", named(sink)]) : "–"),
      fact("Next", site.next ? [when(site.next.start_time), " ", linkTo(() => openDispatch(site.next.dispatch), site.next.dispatch)] : "–")),
    h("h3", null, plural(held.length, "dispatch", "dispatches")),
    shortened(held, ({ dispatch, commitment }) => h("li", null,
      phaseChip(dispatch.phase), linkTo(() => openDispatch(dispatch.id), dispatch.id),
      h("span", null, when(dispatch.start_time), " – ", dispatch.end === null ? "no end yet" : when(dispatch.end_time)),
      h("span", { class: "dim" }, kilowatts(commitment)))));
}

/** What an operator has ordered for the site. */
function byHand(order) {
  if (!order) return null;
  return h("p", { class: "warn" }, order.state === "normal" ? "Kept out of its dispatches by hand until " : "Curtailed by hand until ",
    when(order.until, true), ": ", named(order.reason), ". ", h("code", null, "dispatchd site ID auto"), " ends it.");
}

/** Which sinks have not told the site, since when, and why. */
function untoldBy(site) {
  const known = (state.status?.untold ?? []).filter((one) => one.site === site.id);
  return (site.untold ?? []).map((sink) => {
    const why = known.find((one) => one.sink === sink);
    return h("p", { class: "bad" }, named(sink), " has not told it",
      why ? [` to ${why.command} since `, when(why.since, true), ": ", named(why.reason)] : "");
  });
}

const linkTo = (go, text) => h("button", { type: "button", class: "opener", onclick: go }, named(text));

/** A list whose rest is shown when asked for. */
function shortened(items, show) {
  const list = h("ul", { class: "plain-list" }, items.slice(0, SITES_SHOWN).map(show));
  const rest = items.slice(SITES_SHOWN);
  if (!rest.length) return list;
  const more = h("button", { type: "button", class: "more", onclick: () => {
    list.append(...rest.map(show));
    more.remove();
  } }, `Show the other ${count(rest.length)}`);
  return [list, more].reduce((box, part) => (box.append(part), box), h("div", null));
}

function historyList(lines, nameThem, unasked = 0) {
  const problems = lines.filter((line) => line.problem);
  const dated = lines.filter((line) => !line.problem)
    .sort((a, b) => b.revision - a.revision || b.index - a.index);
  return h("div", null,
    h("h3", null, "History"),
    problems.map(({ problem }) => h("p", { class: "bad" }, problem)),
    dated.length ? h("ol", { class: "history" }, dated.map((line) => h("li", null,
      h("p", { class: "deed" },
        h("strong", null, DEEDS[line.type] ?? line.type),
        nameThem ? linkTo(() => openDispatch(line.id), line.id) : null,
        sourceChip(line.source),
        h("span", { class: "dim" }, when(line.at, true))),
      changeList(line.changed), skippedEvent(line.skipped), overriddenSite(line.override)))) : problems.length ? null : h("p", { class: "dim" }, "Nothing is recorded."),
    unasked > 0 ? h("p", { class: "dim" }, `The history of ${plural(unasked, "older dispatch", "older dispatches")} is found by opening them.`) : null);
}

function changeList(changed) {
  const parts = Object.entries(changed ?? {}).flatMap(([field, { from, to }]) => describe(field, from, to));
  return parts.length ? h("ul", { class: "changes" }, parts.map((part) => h("li", null, part))) : null;
}

/** An event that an operator gave up: what, where, and why. */
function skippedEvent(skipped) {
  if (!skipped) return null;
  return h("ul", { class: "changes" }, h("li", null,
    named(`${skipped.type} of ${skipped.subject} was not delivered to ${skipped.sink}`),
    skipped.reason ? h("span", { class: "dim" }, ": ", named(skipped.reason)) : null));
}

/** What an operator ordered for a site that the dispatch would hold. */
function overriddenSite(override) {
  if (!override) return null;
  const { site, order } = override;
  const words = order === null ? [named(site), " follows its dispatches again"]
    : [named(site), order.state === "normal" ? " is kept out until " : " is curtailed until ", when(order.until, true), ": ", named(order.reason)];
  return h("ul", { class: "changes" }, h("li", null, words));
}

/** A changed field in words. Lists and objects are told by what differs in them. */
function describe(field, from, to) {
  const name = FIELDS[field] ?? field;
  if (field === "sites" && Array.isArray(from) && Array.isArray(to)) return siteChanges(from, to);
  if (isObject(from) && isObject(to)) {
    const keys = [...new Set([...Object.keys(from), ...Object.keys(to)])];
    return keys.filter((key) => JSON.stringify(from[key]) !== JSON.stringify(to[key]))
      .map((key) => fromTo(`${name} ${key}`, key, from[key], to[key]));
  }
  return [fromTo(name, field, from, to)];
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

const fromTo = (name, field, from, to) => [
  h("span", { class: "dim" }, named(name), ": "), h("del", null, valueOf(field, from)), " → ", h("ins", null, valueOf(field, to)),
];

function valueOf(field, value) {
  if (value === null || value === undefined) return field === "end_time" ? "no end yet" : "nothing";
  if (TIMES.has(field)) return when(value, true);
  if (field === "commitment") return kilowatts(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return named(typeof value === "string" ? value : JSON.stringify(value));
}

function siteChanges(from, to) {
  const before = new Map(from.map((site) => [site.id, site]));
  const after = new Map(to.map((site) => [site.id, site]));
  const label = (site) => named(site.name || site.id);
  const gone = from.filter((site) => !after.has(site.id)).map((site) => ["− ", h("del", null, label(site))]);
  const come = to.filter((site) => !before.has(site.id)).map((site) => ["+ ", h("ins", null, label(site)), ` ${kilowatts(site.commitment)}`]);
  const other = to.filter((site) => before.has(site.id)).flatMap((site) => {
    const old = before.get(site.id);
    const named_ = site.name || site.id;
    return ["name", "customer_location_id", "commitment"].filter((key) => old[key] !== site[key])
      .map((key) => fromTo(`${named_} ${key.replaceAll("_", " ")}`, key, old[key], site[key]));
  });
  const all = [...gone, ...come, ...other];
  const most = 20;
  return all.length > most ? [...all.slice(0, most), `and ${plural(all.length - most, "more change")}`] : all;
}

function startDetail() {
  const dialog = $("detail");
  $("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    opened = null;
    giveFocusBack();
  });
  // A click beside it closes it, as people expect.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
