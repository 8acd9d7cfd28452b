// The report of a dispatch: what the API told and when each sink was told, to be printed.
// All times are UTC, so that a printed page says the same everywhere.

const VERDICTS = { on_time: "on time", late: "late", never: "never", not_due: "not due" };

/** Opens the report in place of the dispatch's details. */
async function openReport(id) {
  opened = null;
  say("detail-title", `Report of dispatch ${id}`);
  $("detail-body").replaceChildren(h("p", { class: "dim" }, "Asking."));
  const body = await reportOf(id);
  $("detail-body").replaceChildren(body);
  $("detail-body").scrollTop = 0;
}

async function reportOf(id) {
  try {
    const reply = await ask(`report/${encodeURIComponent(id)}`);
    if (!reply.ok) return h("p", { class: "bad" }, `The report cannot be shown: the daemon answered ${reply.status}.`);
    return reportView(await reply.json());
  } catch {
    return h("p", { class: "bad" }, "The report cannot be shown: the daemon did not answer.");
  }
}

const moment = (iso) => (iso === null || iso === undefined ? "–" : h("time", { datetime: iso }, iso));
const lateness = (seconds) => (seconds === null ? "–" : `${seconds.toFixed(3)} s`);
const cells = (tag, ...texts) => h("tr", null, texts.map((text) => h(tag, null, text)));

function reportView(report) {
  const { dispatch, totals } = report;
  const late = totals.late ? `${count(totals.late)} late (up to ${lateness(totals.latest_seconds)})` : "0 late";
  return h("div", { class: "report" },
    h("p", { class: "chips" }, h("button", { type: "button", class: "no-print", onclick: () => print() }, "Print"),
      phaseChip(dispatch.phase), dispatch.test ? h("span", { class: "chip test" }, "test") : null),
    h("dl", { class: "facts small" },
      fact("Start", moment(dispatch.start_time)), fact("End", moment(dispatch.end_time)),
      fact("Program", named(dispatch.program?.name ?? "–")),
      fact("Sites at sinks", `${count(totals.on_time)} on time (within ${totals.on_time_within_seconds} s), ${late}, ${count(totals.never)} never, ${count(totals.not_due)} not due`)),
    h("h3", null, "What the API told"),
    h("table", null, h("thead", null, cells("th", "No.", "Asked", "Answered", "By", "Start", "End", "Authorized")),
      h("tbody", null, report.states.map((state) => cells("td", String(state.number), moment(state.asked), moment(state.answered), state.way ?? "–",
        ...(state.body === null ? ["not known to the API", "", ""]
          : [moment(state.body.start_time), moment(state.body.end_time), state.body.authorized ? "yes" : "no"]))))),
    report.states_left_out ? h("p", { class: "dim" }, `${count(report.states_left_out)} in the middle were left out.`) : null,
    report.overrides.length ? [h("h3", null, "What an operator decided"),
      h("table", null, h("thead", null, cells("th", "At", "Site", "Order", "Until", "Reason")),
        h("tbody", null, report.overrides.map((line) => cells("td", moment(line.at), named(line.site),
          { normal: "kept out", curtailed: "curtailed", auto: "follows its dispatches again" }[line.order], moment(line.until), named(line.reason ?? "–")))))] : null,
    h("h3", null, "What the sinks were told"),
    h("table", null, h("thead", null, cells("th", "Site", "Sink", "Command", "Due", "First attempt", "Acknowledged", "Lateness", "Attempts")),
      report.deliveries.map((row) => h("tbody", null,
        h("tr", { class: `verdict ${row.verdict}` }, h("th", { scope: "rowgroup" }, named(row.name || row.site), " ", named(row.site)), h("th", null, named(row.sink)),
          h("th", { colspan: 6 }, VERDICTS[row.verdict])),
        row.commands.map((line) => cells("td", "", "", line.command, moment(line.known > line.due ? line.known : line.due), moment(line.first_attempt),
          line.acknowledged === null ? line.delivery : moment(line.acknowledged), lateness(line.lateness_seconds),
          [String(line.attempts), line.last_error ? h("span", { class: "dim" }, " ", named(line.last_error)) : null]))))),
    report.commands_left_out ? h("p", { class: "dim" }, `${count(report.commands_left_out)} commands in the middle were left out.`) : null);
}
