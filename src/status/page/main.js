// Puts the page together.

function showData() {
  rebuildModel();
  showCurtailed();
  drawTimeline();
  drawTables();
  refreshDetail();
}

/** A link sends no token. */
function startApiLink() {
  $("api-link").addEventListener("click", async (event) => {
    if (memory.read() === null) return;
    event.preventDefault();
    const reply = await ask("openapi.json");
    const url = URL.createObjectURL(await reply.blob());
    open(url, "_blank", "noopener");
    setTimeout(() => URL.revokeObjectURL(url), MINUTE);
  });
}

function startPolling() {
  const button = $("poll-now");
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "Polling";
    // Its outcome is told by the status, good or bad.
    await ask("poll", { method: "POST", signal: AbortSignal.timeout(60_000) }).catch(() => {});
    button.disabled = false;
    button.textContent = "Poll now";
    refresh();
  });
}

function showZone() {
  say("zone", inUtc ? "Times are in UTC." : `Times are in ${localZone}; UTC is shown on hover.`);
  say("axis-zone", zoneShort());
  $("axis-zone").title = inUtc ? `Show times in ${localZone}` : "Show times in UTC";
}

function startZone() {
  showZone();
  $("axis-zone").addEventListener("click", () => {
    setZone(!inUtc);
    showZone();
    if (state.sites && state.schedule) showData();
    showHealth();
  });
  // On a phone what matters now comes first.
  if (narrow.matches) $("how").removeAttribute("open");
}

startZone();
startTables();
startDetail();
startToken();
startApiLink();
startTimeline();
startPolling();
drawTimeline();
startLive();
