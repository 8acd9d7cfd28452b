// The page of a daemon that stands by: who leads, and whether this daemon could.

const LOOK_MS = 2500;

function showLink(answers) {
  $("link").dataset.link = answers ? "live" : "lost";
  say("link", answers ? "Live" : "The daemon does not answer");
}

function show(status) {
  setClock(status.now);
  const { schedule: verdict } = status.verdict;
  const { leader, since, term } = status.leadership;
  document.title = `dispatchd: standby ${status.node}`;
  say("version", status.version);
  $("where").replaceChildren(
    h("span", { class: `chip environment ${status.api.environment}` }, status.api.environment),
    h("span", null, named(status.api.host)),
    h("span", { class: "dim" }, named(status.node), ", standby"));
  $("standing").dataset.level = verdict.level;
  say("verdict", leader === null ? "This daemon stands by, and no daemon is known to lead"
    : `This daemon stands by, ${leader} leads`);
  say("why", verdict.level === "ok" ? "What is curtailed is shown by the leader." : verdict.text);
  $("fact-leader").replaceChildren(leader === null ? "–" : named(leader));
  $("sub-leader").replaceChildren(...(since === null ? [] : ["since ", when(since, true)]));
  say("fact-term", term === null ? "–" : String(term));
  const hooks = status.sync.webhooks;
  sayAgo("fact-webhook", hooks.last_at);
  say("sub-webhook", `${plural(hooks.accepted, "webhook")} passed on, ${count(hooks.failed)} answered 503`);
}

async function refresh() {
  try {
    const reply = await ask("status");
    if (!reply.ok) throw new Error(`status answered ${reply.status}`);
    const status = await reply.json();
    // It leads now, and has another page.
    if (status.schedule.revision !== null) {
      location.reload();
      return;
    }
    show(status);
    showLink(true);
  } catch (error) {
    if (!(error instanceof Refused)) showLink(false);
  }
}

say("zone", `Times are in ${localZone}; UTC is shown on hover.`);
startToken();
refresh();
setInterval(() => {
  if (!document.hidden) refresh();
}, LOOK_MS);
