// The tables: sorted by their heads, and shown a part at a time, as 2,000 rows
// at once would make every change slow.

const PART = 25;

/** A table. `columns` say what each cell shows and what it is sorted by. */
function table({ id, columns, rows, open, one, many, none, sort }) {
  let order = sort;
  let limit = PART;
  const element = $(id);
  const heads = columns.map((column, index) => h("th", { scope: "col", class: column.class },
    h("button", { type: "button", onclick: () => {
      order = order.index === index ? { index, down: !order.down } : { index, down: false };
      draw();
    } }, column.head, h("span", { class: "arrow", "aria-hidden": "true" }))));
  const body = h("tbody", null);
  element.replaceChildren(h("thead", null, h("tr", null, heads)), body);
  $(`more-${id}`).addEventListener("click", () => {
    limit += 4 * PART;
    draw();
  });

  function draw() {
    const found = rows().slice();
    const { by } = columns[order.index];
    const sign = order.down ? -1 : 1;
    found.sort((a, b) => sign * compare(by(a), by(b)) || byText(a.id, b.id));
    heads.forEach((head, index) => {
      const sorted = index === order.index ? (order.down ? "descending" : "ascending") : "none";
      head.setAttribute("aria-sort", sorted);
    });
    // Whoever stands on a row stays on it.
    const held = body.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    body.replaceChildren(...found.slice(0, limit).map((item) => h("tr", { "data-id": item.id, class: item.phase ?? item.state },
      columns.map((column) => h("td", { class: column.class }, column.show(item))))));
    if (held !== null) [...body.querySelectorAll("button")].find((button) => button.dataset.id === held)?.focus();
    element.hidden = found.length === 0;
    $(`no-${id}`).hidden = found.length > 0;
    say(`no-${id}`, model.search ? "Nothing is found by that." : none);
    say(`${id}-count`, model.search ? `${plural(found.length, one, many)} found` : plural(found.length, one, many));
    const left = found.length - limit;
    $(`more-${id}`).hidden = left <= 0;
    say(`more-${id}`, `Show more (${count(Math.max(0, left))} left)`);
  }
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    // Text that was selected is not a click.
    if (row && getSelection().isCollapsed) open(row.dataset.id);
  });
  return draw;
}

/** What is not there comes last. */
function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  return typeof a === "string" ? byText(a, b) : a - b;
}

const opener = (id, text) => h("button", { type: "button", class: "opener", "data-id": id }, named(text));
const phaseChip = (phase) => h("span", { class: `chip phase ${phase}` }, phase);
const sourceChip = (source) => h("span", { class: `chip source ${source}` }, source);
const sub = (...content) => h("span", { class: "cell-sub" }, ...content);

/** What a site does, and whether somebody has not told it so. */
const stateChips = (site) => [h("span", { class: `chip state ${site.state}` }, site.state),
  (site.sinks ?? []).length ? null : h("span", { class: "chip", title: "its commands go to no sink" }, "no sink"),
  site.override ? h("span", { class: "chip by-hand", title: `${site.override.reason} (until ${site.override.until})` }, site.override.state === "normal" ? "kept out by hand" : "by hand") : null,
  isUntold(site) ? h("span", { class: "chip untold", title: site.untold.join(", ") }, "not told") : null];

let drawDispatches;
let drawSites;

function startTables() {
  drawDispatches = table({
    id: "dispatches", one: "dispatch", many: "dispatches", rows: foundDispatches, open: openDispatch,
    none: "No dispatch is known yet.", sort: { index: 0, down: false },
    columns: [
      { head: "Phase", by: (d) => PHASES.indexOf(d.phase) * 1e14 + (PHASES.indexOf(d.phase) > 1 ? -d.start : d.start),
        show: (d) => [phaseChip(d.phase), d.test ? h("span", { class: "chip test" }, "test") : null] },
      { head: "Dispatch", by: (d) => d.id, show: (d) => [opener(d.id, d.id), sub(named(programOf(d)))] },
      { head: "Start", by: (d) => d.start, show: (d) => when(d.start_time) },
      { head: "End", by: (d) => d.end ?? Infinity, show: (d) => (d.end === null ? h("span", { class: "open-end" }, "no end yet") : when(d.end_time)) },
      { head: "Sites", class: "num mid", by: (d) => d.sites.length, show: (d) => count(d.sites.length) },
      { head: "Commitment", class: "num wide", by: (d) => d.kw, show: (d) => kilowatts(d.kw) },
      { head: "Last change", class: "wide", by: (d) => Date.parse(d.last_changed), show: (d) => [when(d.last_changed, true), " ", sourceChip(d.last_changed_by)] },
    ],
  });
  drawSites = table({
    id: "sites", one: "site", rows: foundSites, open: openSite,
    none: "No site is known yet.", sort: { index: 0, down: false },
    columns: [
      { head: "State", by: urgency, show: stateChips },
      { head: "Site", by: siteTitle, show: (site) => [opener(site.id, siteTitle(site)), sub(named(site.id))] },
      { head: "Location", class: "wide", by: (site) => site.customer_location_id || null, show: (site) => named(site.customer_location_id) },
      { head: "Commitment", class: "num mid", by: (site) => site.commitment_kw, show: (site) => kilowatts(site.commitment_kw) },
      { head: "Until", by: (site) => (site.until ? Date.parse(site.until) : site.state === "curtailed" ? 8e15 : null),
        show: (site) => (site.until ? when(site.until) : site.state === "curtailed" ? h("span", { class: "open-end" }, "no end yet") : "–") },
      { head: "Held by", class: "wide", by: (site) => site.dispatches.length || null, show: (site) => (site.dispatches.length ? named(site.dispatches.join(", ")) : site.override && site.state === "curtailed" ? "an operator" : "–") },
      { head: "Next", class: "wide", by: (site) => (site.next ? Date.parse(site.next.start_time) : null),
        show: (site) => (site.next ? [when(site.next.start_time), " ", named(site.next.dispatch)] : "–") },
    ],
  });
}

const drawTables = eachFrame(() => {
  drawDispatches();
  drawSites();
});
