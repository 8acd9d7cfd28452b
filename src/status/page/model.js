// What the timeline and the tables are made of.

const PHASES = ["active", "scheduled", "ended", "cancelled"];

/** Derived from the last answers. */
const model = {
  /** Sites with their dispatches, those that matter now first. */
  sites: [],
  dispatches: [],
  byId: new Map(),
  search: "",
  /** Whether ended and cancelled dispatches are left out of the timeline. */
  hideOver: false,
};

const programOf = (dispatch) => dispatch.program?.name || dispatch.program?.program_type || "";
const total = (dispatch) => {
  const known = dispatch.sites.map((site) => site.commitment).filter((kw) => kw !== null);
  return known.length ? known.reduce((sum, kw) => sum + kw, 0) : null;
};
const siteTitle = (site) => site.name || site.customer_location_id || site.id;

const isOver = (dispatch) => dispatch.phase === "ended" || dispatch.phase === "cancelled";

/** Where its bar ends. What was called off without an end would else fill its sites' rows for ever. */
function drawnEnd(dispatch) {
  if (dispatch.end_time !== null) return Date.parse(dispatch.end_time);
  if (dispatch.phase !== "cancelled") return Infinity;
  return Math.max(Date.parse(dispatch.last_changed), Date.parse(dispatch.start_time) + HOUR);
}

function rebuildModel() {
  const sites = new Map();
  for (const site of state.sites?.sites ?? []) sites.set(site.id, { ...site, all: [] });
  model.dispatches = (state.schedule?.dispatches ?? []).map((dispatch) => ({
    ...dispatch,
    start: Date.parse(dispatch.start_time),
    end: dispatch.end_time === null ? null : Date.parse(dispatch.end_time),
    drawnEnd: drawnEnd(dispatch),
    kw: total(dispatch),
    text: `${dispatch.id} ${programOf(dispatch)}`.toLowerCase(),
  }));
  model.byId = new Map(model.dispatches.map((dispatch) => [dispatch.id, dispatch]));
  for (const dispatch of model.dispatches) {
    for (const { id, commitment } of dispatch.sites) sites.get(id)?.all.push({ dispatch, commitment });
  }
  model.sites = [...sites.values()];
  for (const site of model.sites) {
    site.text = `${site.id} ${site.name} ${site.customer_location_id}`.toLowerCase();
    site.shown = model.hideOver ? site.all.filter(({ dispatch }) => !isOver(dispatch)) : site.all;
    site.lanes = stack(site.shown);
  }
  model.sites.sort((a, b) => urgency(a) - urgency(b) || byText(siteTitle(a), siteTitle(b)) || byText(a.id, b.id));
}

const collator = new Intl.Collator(undefined, { numeric: true });
const byText = (a, b) => collator.compare(a, b);

/** Sites that were not told come first, then curtailed ones, then those that will be, then the rest. */
function urgency(site) {
  if (isUntold(site)) return 0;
  if (site.state === "curtailed") return 1;
  if (site.next) return 2;
  return site.all.length ? 3 : 4;
}

/** Whether some sink has not told the site what it must do. */
const isUntold = (site) => (site.untold ?? []).length > 0;

/** Puts what overlaps into lanes, so that nothing hides anything. Returns how many. */
function stack(held) {
  const ends = [];
  held.sort((a, b) => a.dispatch.start - b.dispatch.start || byText(a.dispatch.id, b.dispatch.id));
  for (const item of held) {
    const { start, drawnEnd } = item.dispatch;
    let lane = ends.findIndex((busyUntil) => busyUntil <= start);
    if (lane < 0) lane = ends.length;
    ends[lane] = Math.max(drawnEnd, start);
    item.lane = lane;
  }
  return ends.length;
}

const words = () => model.search.toLowerCase().split(/\s+/).filter(Boolean);

/** Sites that the search finds. */
function foundSites() {
  const wanted = words();
  if (!wanted.length) return model.sites;
  return model.sites.filter((site) => wanted.every((word) => site.text.includes(word)));
}

/** Dispatches that the search finds by themselves, or by one of their sites. */
function foundDispatches() {
  const wanted = words();
  if (!wanted.length) return model.dispatches;
  const found = new Set(foundSites().map((site) => site.id));
  return model.dispatches.filter((dispatch) =>
    wanted.every((word) => dispatch.text.includes(word)) || dispatch.sites.some((site) => found.has(site.id)));
}
