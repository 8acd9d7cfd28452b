// Puts the page together.

function showData() {
  rebuildModel();
  showCurtailed();
  drawTimeline();
  drawTables();
  refreshDetail();
}

/** Asks for the token, once, whoever found out that one is needed: `refused` is the one that was sent. */
function askForToken(refused) {
  const dialog = $("ask-token");
  // An answer to an older request says nothing of the token given since.
  if (dialog.open || memory.read() !== refused) return;
  $("forget").hidden = true;
  memory.write(null);
  say("token-error", refused !== null ? "That token was refused." : "");
  $("token").value = "";
  dialog.showModal();
}

function startToken() {
  const dialog = $("ask-token");
  // Without a token there is nothing to go back to.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    memory.write($("token").value.trim());
    dialog.close();
    $("forget").hidden = false;
    refresh();
  });
  $("forget").hidden = memory.read() === null;
  $("forget").addEventListener("click", () => {
    memory.write(null);
    location.reload();
  });
  // A link sends no token.
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
startTimeline();
startPolling();
drawTimeline();
startLive();
