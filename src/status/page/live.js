// Keeps what is shown true: follows /events, and asks again for what changed.
// Events only say that it is time to ask. The answers are shown as they are,
// so the page shows one committed state rather than one patched together here.

/** What the daemon said last. */
const state = {
  status: null,
  schedule: null,
  sites: null,
  /** Whether /events is open. */
  following: false,
  /** Since when nothing has been answered, in ms; null while answers come. */
  lostAt: null,
};

const FALLBACK_MS = 5000;
const STATUS_MS = 2500;
/** The stream shows that it is alive every 15 s. */
const SILENCE_MS = 40_000;

/** Fetches JSON that may not have changed. Returns whether it has. */
async function fetchKept(name, path) {
  const etag = state[name]?.etag;
  const reply = await ask(path, etag ? { headers: { "If-None-Match": etag } } : {});
  if (reply.status === 304) return false;
  if (!reply.ok) throw new Error(`${path} answered ${reply.status}`);
  state[name] = { ...(await reply.json()), etag: reply.headers.get("ETag") };
  return true;
}

/** Runs `work` when asked, never twice at once, and rests after it in proportion to what it took. */
function activity(work, leastGap) {
  let running = false;
  let again = false;
  return async function activate() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      const began = performance.now();
      await work();
      const took = performance.now() - began;
      await new Promise((resolve) => setTimeout(resolve, Math.max(leastGap, took * 3)));
    } while (again);
    running = false;
  };
}

function answered() {
  if (state.lostAt !== null) {
    state.lostAt = null;
    showLink();
  }
}

function unanswered(error) {
  if (error instanceof Refused) return;
  state.lostAt ??= Date.now();
  showLink();
  showHealth();
}

/** Who has not been told, in a form that can be compared. */
const untoldNow = () => JSON.stringify([state.status?.untold_sites, state.status?.untold.map(({ site, sink }) => [site, sink])]);

const refreshStatus = activity(async () => {
  try {
    const reply = await ask("status");
    if (!reply.ok) throw new Error(`status answered ${reply.status}`);
    const before = untoldNow();
    state.status = await reply.json();
    // A standby knows no schedule, and has a page of its own.
    if (state.status.schedule.revision === null) {
      location.reload();
      return;
    }
    // No event tells of it.
    if (untoldNow() !== before) refreshData();
    setClock(state.status.now);
    answered();
    showHealth();
  } catch (error) {
    unanswered(error);
  }
}, 100);

const refreshData = activity(async () => {
  try {
    const changed = await Promise.all([fetchKept("schedule", "schedule"), fetchKept("sites", "sites")]);
    answered();
    if (changed.includes(true)) showData();
    // The two were asked for apart, and something was committed in between.
    if (state.schedule.revision !== state.sites.revision) refreshData();
  } catch (error) {
    unanswered(error);
  }
}, 100);

function refresh() {
  refreshStatus();
  refreshData();
}

/** Reads the stream until it ends. Only full blocks count: a block is an event, or a sign of life. */
async function readStream(reply, alive) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let tail = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    const blocks = (tail + value).split("\n\n");
    tail = blocks.pop();
    if (blocks.some((block) => block.includes("\nevent:") || block.startsWith("event:"))) refresh();
  }
}

let streamStop = new AbortController();

async function follow() {
  streamStop = new AbortController();
  const stop = streamStop;
  let watchdog;
  const alive = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => stop.abort(), SILENCE_MS);
  };
  try {
    alive();
    const reply = await ask("events", { signal: stop.signal });
    if (!reply.ok) throw new Error(`events answered ${reply.status}`);
    state.following = true;
    answered();
    showLink();
    // Whatever happened before the stream was open is asked for now.
    refresh();
    await readStream(reply, alive);
  } finally {
    clearTimeout(watchdog);
    state.following = false;
    showLink();
  }
}

/** Follows for ever. A hidden tab lets go: a browser has few connections for one host, and the daemon few places. */
async function keepFollowing() {
  let delay = 500;
  for (;;) {
    if (!document.hidden && !$("ask-token").open) {
      const began = Date.now();
      await follow().catch((error) => {
        if (!(error instanceof Refused)) refresh();
      });
      delay = Date.now() - began > 10_000 ? 500 : Math.min(delay * 2, 5000);
    }
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
}

function startLive() {
  keepFollowing();
  let lastStatus = 0;
  let lastData = 0;
  setInterval(() => {
    if (document.hidden || $("ask-token").open) return;
    const now = Date.now();
    if (now - lastStatus >= STATUS_MS) {
      lastStatus = now;
      refreshStatus();
    }
    // With a stream this is only for what is pruned, of which no event tells.
    if (now - lastData >= (state.following ? 60_000 : FALLBACK_MS)) {
      lastData = now;
      refreshData();
    }
  }, 500);
  let letGo;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(letGo);
    if (document.hidden) letGo = setTimeout(() => streamStop.abort(), 30_000);
    else refresh();
  });
}
