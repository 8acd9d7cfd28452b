// The sites that are enrolled at the API, and what does not fit the routes.

/** How many names a line shows. */
const INVENTORY_NAMED = 5;

let inventoryShown = "";

/** The first of `items`, and how many there are beside them, of `all`. */
function firstOf(items, all) {
  const first = items.slice(0, INVENTORY_NAMED);
  const parts = first.flatMap((item, at) => (at ? [", ", item] : [item]));
  return all > first.length ? [...parts, ` and ${count(all - first.length)} more`] : parts;
}

const siteName = ({ site, name }) => named(name ? `${name} (${site})` : site);

/** What is to be mended, each with its word, what it is about, and what to do. */
function inventoryFindings(inventory) {
  const { unrouted_sites: unrouted, unmatched_patterns: unmatched, vanished_sites: vanished } = inventory;
  const findings = [];
  if (unrouted) {
    findings.push([`${plural(unrouted, "site")} without a sink`, firstOf(inventory.unrouted.map(siteName), unrouted),
      "In a dispatch nobody would be told what to do there. Add them to “sites” of a [[sink]] and restart, or to one with to = \"none\" if they are left out on purpose."]);
  }
  if (unmatched) {
    const patterns = inventory.unmatched.map(({ pattern, sink }) => [named(`“${pattern}”`), " of ", named(sink)]);
    findings.push([`${plural(unmatched, "pattern")} without a site`, firstOf(patterns, unmatched),
      "No enrolled site matches. Correct “sites” of the [[sink]] and restart, or ask Voltus why the sites are not enrolled."]);
  }
  if (vanished) {
    const sites = inventory.vanished.map((one) => [siteName(one), ` since ${timeText(Date.parse(one.since))}`]);
    findings.push([`${plural(vanished, "site")} not enrolled any more`, firstOf(sites, vanished),
      "Ask Voltus whether that is meant. A dispatch that names them is carried out all the same."]);
  }
  return findings;
}

/** What is known of the enrolled sites, in a sentence or two. */
function inventoryText({ enrolled_sites: enrolled, problem, gap, last_look: look }, findings) {
  const asked = look ? `, asked ${length(nowMs() - Date.parse(look))} ago` : "";
  const parts = [];
  if (enrolled !== null) {
    parts.push(`${count(enrolled)} enrolled${asked}${findings.length || !enrolled ? "" : "; each has a sink"}.`);
  }
  if (problem) parts.push(`${enrolled === null ? "Not known" : "The last request failed"}: ${problem}.`);
  if (gap) parts.push(`There may be more: ${gap}.`);
  return parts.join(" ") || "Not asked for yet.";
}

function showInventory(inventory) {
  const findings = inventoryFindings(inventory);
  say("inventory-text", inventoryText(inventory, findings));
  $("inventory").classList.toggle("calm", !findings.length);
  // Redrawn only if it differs: a pointer may rest on it.
  const shown = JSON.stringify([inUtc, inventory.unrouted, inventory.unmatched, inventory.vanished,
    inventory.unrouted_sites, inventory.unmatched_patterns, inventory.vanished_sites]);
  if (shown === inventoryShown) return;
  inventoryShown = shown;
  $("findings").replaceChildren(...findings.map(([word, about, advice]) => h("li", { class: "sink", "data-kind": "warn" },
    h("span", { class: "chip" }, word), h("span", { class: "about" }, about), h("span", { class: "dim advice" }, advice))));
}
