// The timeline: a row for each site, a bar for each dispatch around now. Only
// the rows in sight exist, so 2,000 sites cost no more than ten.

const SPANS = [1, 3, 6, 12, 24, 48];
/** How much of what is shown lies before now, while it moves with time. */
const BEFORE_NOW = 0.3;

const view = {
  hours: matchMedia("(max-width: 640px)").matches ? 6 : 12,
  /** Where the left edge is, in ms; null while it moves with time. */
  start: null,
  rows: [],
  chosen: null,
  /** What the rows were last drawn for. */
  drawn: "",
};

const narrow = matchMedia("(max-width: 640px)");
const labelWidth = () => (narrow.matches ? 0 : 190);
/** Above so many sites rows are lower, so that more of them fit. */
const MANY = 30;
const rowHeight = () => (narrow.matches ? 58 : view.rows.length > MANY ? 32 : 48);
const spanMs = () => view.hours * HOUR;

function startMs() {
  if (view.start !== null) return view.start;
  // In whole steps of a pixel, so that bars stand still in between.
  const step = Math.max(1000, spanMs() / 1000);
  return Math.floor(nowMs() / step) * step - spanMs() * BEFORE_NOW;
}

const plotWidth = () => Math.max(60, $("rows").clientWidth - labelWidth());
const xOf = (ms) => ((ms - startMs()) / spanMs()) * plotWidth();

const TICK_MINUTES = [5, 10, 15, 30, 60, 120, 180, 360, 720];

/** Round times of the zone shown, about 90 px apart. */
function ticks() {
  const most = Math.max(2, plotWidth() / 90);
  const step = (TICK_MINUTES.find((minutes) => spanMs() / (minutes * MINUTE) <= most) ?? 1440) * MINUTE;
  const from = startMs();
  const found = [];
  const day = new Date(from);
  if (inUtc) day.setUTCHours(0, 0, 0, 0);
  else day.setHours(0, 0, 0, 0);
  while (day.getTime() < from + spanMs()) {
    const next = new Date(day);
    if (inUtc) next.setUTCDate(next.getUTCDate() + 1);
    else next.setDate(next.getDate() + 1);
    // Day by day, as a day may have 23 or 25 hours.
    for (let at = day.getTime(); at < next.getTime(); at += step) {
      if (at >= from && at <= from + spanMs()) found.push({ at, midnight: at === day.getTime() });
    }
    day.setTime(next.getTime());
  }
  return found;
}

function drawAxis() {
  const marks = ticks();
  const left = labelWidth();
  $("axis").replaceChildren(...marks.map(({ at, midnight }) =>
    h("span", { class: midnight ? "tick day" : "tick", "data-x": left + xOf(at) },
      h("span", null, midnight ? dayFormat.format(at) : clockFormat.format(at)))));
  for (const tick of $("axis").children) tick.style.left = `${tick.dataset.x}px`;
  for (const tick of $("axis").children) tick.dataset.width = tick.offsetWidth;
  const grid = $("grid");
  grid.style.left = `${left}px`;
  grid.style.width = `${plotWidth()}px`;
  grid.replaceChildren(...marks.map(({ at, midnight }) =>
    s("line", { x1: xOf(at), x2: xOf(at), y1: 0, y2: "100%", class: midnight ? "day" : null })));
}

function drawNow() {
  const x = xOf(nowMs());
  // The label of now covers no other.
  for (const tick of $("axis").children) {
    const from = Number(tick.dataset.x) - labelWidth();
    tick.classList.toggle("covered", from < x + 22 && from + tick.dataset.width * 1 > x - 22);
  }
  const line = $("now-line");
  line.hidden = !view.rows.length || x < 0 || x > plotWidth();
  line.style.left = `${labelWidth() + x}px`;
}

/** A bar. Phases differ in outline, height and pattern, colour comes on top. */
function bar(item, lanes, top, room) {
  const { dispatch, commitment, lane } = item;
  const from = xOf(dispatch.start);
  const to = Math.min(xOf(dispatch.drawnEnd), plotWidth() + 40);
  if (to < 0 || from > plotWidth()) return null;
  const left = Math.max(from, -40);
  const width = Math.max(3, to - left);
  const step = (room + 2) / lanes;
  // However many there are, they stay within the row.
  const height = Math.max(1.5, step > 5 ? Math.floor(step - 2) : step - 1);
  const y = top + lane * (step > 5 ? height + 2 : step);
  const open = dispatch.end === null;
  const thin = isOver(dispatch) && height > 8;
  const boxY = thin ? y + height * 0.25 : y;
  const boxHeight = thin ? height * 0.5 : height;
  const shown = Math.min(width, plotWidth() - left) - Math.max(0, -left);
  const label = height >= 11 && shown > 34 && !(thin && boxHeight < 10) ? barLabel(dispatch, commitment, shown - 12) : "";
  const text = label
    ? s("svg", { x: Math.max(left, 0), y, width: Math.max(0, shown - 3), height, class: height < 14 || thin ? "tight" : null },
      s("text", { x: 6, y: "50%", dy: "0.35em" }, label))
    : null;
  const box = (className, extra) => s("rect", { class: className, x: left, y: boxY, width, height: boxHeight, rx: 3, ...extra });
  return s("g", { class: `bar ${dispatch.phase}${dispatch.test ? " test" : ""}${open ? " open" : ""}`, "data-id": dispatch.id },
    s("title", null, barTitle(dispatch, commitment)),
    s("g", { mask: open ? "url(#fade)" : null },
      box("box"),
      dispatch.phase === "cancelled" ? box("pattern", { fill: "url(#hatch)" }) : null),
    text);
}

const pen = document.createElement("canvas").getContext("2d");

/** What a bar says in so many pixels: the amount always, the name cut between words. */
function barLabel(dispatch, commitment, room) {
  pen.font = "550 11.5px Inter, system-ui, sans-serif";
  const fits = (text) => pen.measureText(text).width <= room;
  const amount = kilowatts(commitment);
  const marks = [dispatch.test ? "TEST" : null, dispatch.phase === "cancelled" ? "cancelled" : null];
  const whole = [amount, ...marks, programOf(dispatch) || dispatch.id, dispatch.end === null ? "no end yet" : null].filter(Boolean).join(" · ");
  if (fits(whole)) return whole;
  const parts = whole.split(" ");
  while (parts.length > 1) {
    parts.pop();
    const cut = `${parts.join(" ").replace(/[ ·]+$/, "")}…`;
    if (cut.startsWith(amount) && fits(cut)) return cut === `${amount}…` ? amount : cut;
  }
  return fits(amount) ? amount : "";
}

function barTitle(dispatch, commitment) {
  const end = dispatch.end === null ? "no end yet" : `${timeText(dispatch.end)} (${utc(dispatch.end)})`;
  return [
    `${dispatch.id}${programOf(dispatch) ? `, ${programOf(dispatch)}` : ""}: ${dispatch.phase}${dispatch.test ? ", a test" : ""}`,
    `from ${timeText(dispatch.start)} (${utc(dispatch.start)})`,
    `to ${end}`,
    commitment === null ? null : kilowatts(commitment),
  ].filter(Boolean).join("\n");
}

/** What a row is called by those who read it out. */
function rowLabel(site) {
  const doing = site.state === "curtailed"
    ? `curtailed ${site.until ? `until ${timeText(Date.parse(site.until))}` : "with no end yet"}`
    : "normal";
  const untold = isUntold(site) ? ", not told" : "";
  const byHand = site.override ? " by hand" : "";
  return `${siteTitle(site)}, ${doing}${byHand}${untold}, ${plural(site.all.length, "dispatch", "dispatches")}`;
}

function row(site, index, height) {
  const label = labelWidth();
  const top = label ? 5 : 23;
  const lanes = Math.max(1, site.lanes);
  const bars = site.shown.map((item) => bar(item, lanes, top, height - top - 5));
  const element = h("div", {
    class: `row${index === view.chosen ? " chosen" : ""}`, id: `row-${index}`, role: "option", "data-index": index,
    "aria-selected": String(index === view.chosen), "aria-setsize": view.rows.length, "aria-posinset": index + 1,
    "aria-label": rowLabel(site),
  },
  h("div", { class: `row-label ${site.state}${isUntold(site) ? " untold" : ""}${height < 40 ? " low" : ""}`, title: `${siteTitle(site)} (${site.id})` },
    h("span", { class: "row-name" }, named(siteTitle(site))),
    h("span", { class: "row-sub" }, isUntold(site) ? "not told"
      : site.override ? `${site.state === "curtailed" ? "curtailed" : "kept out"} by hand`
      : site.state === "curtailed" ? `${height < 40 ? "" : "curtailed · "}${kilowatts(site.commitment_kw)}` : named(subtitle(site)))),
  s("svg", { class: "bars", width: plotWidth(), height }, ...bars));
  element.style.top = `${index * height}px`;
  element.style.height = `${height}px`;
  return element;
}

/** What tells sites of one name apart. */
const subtitle = (site) => (site.name && site.customer_location_id ? site.customer_location_id : site.id);

function drawRows(force = false) {
  const rows = $("rows");
  const height = rowHeight();
  const first = Math.max(0, Math.floor(rows.scrollTop / height) - 2);
  const last = Math.min(view.rows.length, Math.ceil((rows.scrollTop + rows.clientHeight) / height) + 2);
  const drawn = [first, last, startMs(), spanMs(), plotWidth(), height, view.chosen].join();
  if (!force && drawn === view.drawn) return;
  view.drawn = drawn;
  const spacer = h("div", { class: "spacer", role: "presentation" });
  spacer.style.height = `${view.rows.length * height}px`;
  const shown = [];
  for (let index = first; index < last; index++) shown.push(row(view.rows[index], index, height));
  const before = rows.scrollTop;
  rows.replaceChildren(spacer, ...shown);
  rows.scrollTop = before;
  if (view.chosen === null || view.chosen < first || view.chosen >= last) rows.removeAttribute("aria-activedescendant");
  else rows.setAttribute("aria-activedescendant", `row-${view.chosen}`);
}

/** Draws everything anew, after data, size, zoom or place have changed. */
const drawTimeline = eachFrame(() => {
  view.rows = foundSites();
  if (view.chosen !== null && view.chosen >= view.rows.length) view.chosen = null;
  const rows = $("rows");
  const none = view.rows.length === 0;
  $("plot").hidden = none;
  $("no-rows").hidden = !none;
  say("no-rows", !state.sites ? "Asking for the sites."
    : model.sites.length ? "No site is found by that."
      : "No site is known yet. Sites appear with the first dispatch that names them.");
  rows.style.height = `${Math.min(view.rows.length * rowHeight(), Math.max(240, innerHeight * 0.55))}px`;
  $("hide-over").setAttribute("aria-pressed", String(model.hideOver));
  $("to-now").setAttribute("aria-pressed", String(view.start === null));
  for (const button of $("spans").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.hours) === view.hours));
  }
  drawAxis();
  drawRows(true);
  drawNow();
});

/** Moves with time: the line at once, the bars when they would stand elsewhere. */
function moveWithTime() {
  drawNow();
  if (view.start !== null) return;
  const before = view.drawn;
  drawRows();
  if (view.drawn !== before) drawAxis();
}

function move(share) {
  view.start = startMs() + share * spanMs();
  drawTimeline();
}

function zoomTo(hours) {
  // What stands in the middle stays there, unless now is followed.
  if (view.start !== null) view.start += (spanMs() - hours * HOUR) / 2;
  view.hours = hours;
  drawTimeline();
}

function zoomBy(steps) {
  const index = SPANS.indexOf(view.hours) + steps;
  if (index >= 0 && index < SPANS.length) zoomTo(SPANS[index]);
}

function backToNow() {
  view.start = null;
  drawTimeline();
}

function choose(index) {
  if (!view.rows.length) return;
  view.chosen = Math.max(0, Math.min(view.rows.length - 1, index));
  const rows = $("rows");
  const top = view.chosen * rowHeight();
  if (top < rows.scrollTop) rows.scrollTop = top;
  else if (top + rowHeight() > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + rowHeight() - rows.clientHeight;
  drawRows(true);
}
