// How the timeline is moved about: buttons, keys, pointer.

const LEGEND = [
  ["active", "Active", false],
  ["scheduled", "Scheduled", false],
  ["ended", "Ended", false],
  ["cancelled", "Cancelled", false],
  ["active", "No end yet", true],
];

function drawLegend() {
  $("legend").replaceChildren(...LEGEND.map(([phase, text, open]) => {
    const thin = phase === "ended" || phase === "cancelled";
    const box = (className, extra) =>
      s("rect", { class: className, x: 1, y: thin ? 3.5 : 1, width: 26, height: thin ? 7 : 12, rx: 3, ...extra });
    return h("li", null,
      s("svg", { width: 28, height: 14, "aria-hidden": "true", class: `bar ${phase}` },
        s("g", { mask: open ? "url(#fade)" : null },
          box("box"),
          phase === "cancelled" ? box("pattern", { fill: "url(#hatch)" }) : null)),
      text);
  }));
}

const KEYS = {
  ArrowUp: () => choose((view.chosen ?? 0) - 1),
  ArrowDown: () => choose(view.chosen === null ? 0 : view.chosen + 1),
  PageUp: () => choose((view.chosen ?? 0) - 10),
  PageDown: () => choose((view.chosen ?? 0) + 10),
  ArrowLeft: () => move(-0.25),
  ArrowRight: () => move(0.25),
  "+": () => zoomBy(-1),
  "=": () => zoomBy(-1),
  "-": () => zoomBy(1),
  Home: backToNow,
  Enter: () => view.chosen !== null && openSite(view.rows[view.chosen].id),
  " ": () => view.chosen !== null && openSite(view.rows[view.chosen].id),
};

/** Lets the timeline be dragged sideways. A finger scrolls the rows up and down as ever. */
function letDrag(rows) {
  let from = null;
  rows.addEventListener("pointerdown", (event) => {
    if (event.button === 0) from = { x: event.clientX, start: startMs(), id: event.pointerId, moved: false };
  });
  rows.addEventListener("pointermove", (event) => {
    if (!from || event.pointerId !== from.id) return;
    const distance = event.clientX - from.x;
    if (!from.moved && Math.abs(distance) < 5) return;
    from.moved = true;
    rows.setPointerCapture(from.id);
    view.start = from.start - (distance / plotWidth()) * spanMs();
    drawTimeline();
  });
  const end = (event) => {
    if (from && event.pointerId === from.id) setTimeout(() => { from = null; });
  };
  rows.addEventListener("pointerup", end);
  rows.addEventListener("pointercancel", end);
  return () => from?.moved ?? false;
}

function startTimeline() {
  drawLegend();
  $("spans").replaceChildren(...SPANS.map((hours) =>
    h("button", { type: "button", "data-hours": hours, "aria-label": plural(hours, "hour"), onclick: () => zoomTo(hours) }, `${hours}h`)));
  $("earlier").addEventListener("click", () => move(-0.5));
  $("later").addEventListener("click", () => move(0.5));
  $("to-now").addEventListener("click", backToNow);
  $("hide-over").addEventListener("click", () => {
    model.hideOver = !model.hideOver;
    rebuildModel();
    drawTimeline();
  });

  const rows = $("rows");
  const dragged = letDrag(rows);
  rows.addEventListener("click", (event) => {
    if (dragged()) return;
    const bar = event.target.closest(".bar");
    const row = event.target.closest(".row");
    if (row) choose(Number(row.dataset.index));
    if (bar) openDispatch(bar.dataset.id);
    else if (event.target.closest(".row-label")) openSite(view.rows[view.chosen].id);
  });
  rows.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
  rows.addEventListener("wheel", (event) => {
    if (event.ctrlKey) {
      event.preventDefault();
      zoomBy(Math.sign(event.deltaY));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      view.start = startMs() + (event.deltaX / plotWidth()) * spanMs();
      drawTimeline();
    }
  }, { passive: false });
  rows.addEventListener("scroll", eachFrame(() => drawRows()), { passive: true });
  new ResizeObserver(drawTimeline).observe($("plot"));
  narrow.addEventListener("change", drawTimeline);

  $("search").addEventListener("input", (event) => {
    model.search = event.target.value;
    view.chosen = null;
    rows.scrollTop = 0;
    drawTimeline();
    drawTables();
  });
  setInterval(() => {
    if (document.hidden) return;
    moveWithTime();
    showHealth();
  }, 1000);
}
