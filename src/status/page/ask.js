// Asks the daemon, with the token if it wants one, and asks the reader for that token.
// A page that has this defines `refresh`, which asks for everything again.

const TOKEN = "dispatchd.token";

/** The tab's storage may be forbidden; the token then lasts as long as the page. */
const memory = {
  token: null,
  read() {
    try { this.token = sessionStorage.getItem(TOKEN) ?? this.token; } catch { /* kept here alone */ }
    return this.token;
  },
  write(token) {
    this.token = token;
    try {
      if (token === null) sessionStorage.removeItem(TOKEN);
      else sessionStorage.setItem(TOKEN, token);
    } catch { /* kept here alone */ }
  },
};

class Refused extends Error {}

/** Asks the daemon. `EventSource` and plain links could not send the token. */
async function ask(path, options = {}) {
  const headers = { ...options.headers };
  const token = memory.read();
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const reply = await fetch(path, {
    cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(15_000), ...options, headers,
  });
  if (reply.status === 401) {
    askForToken(token);
    throw new Refused("a token is needed");
  }
  return reply;
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
}
