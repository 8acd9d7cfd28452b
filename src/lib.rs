//! dispatchd keeps the schedule of Voltus demand-response dispatches true: fed
//! by webhooks, healed by polling.
//!
//! ```text
//!  webhook (a hint: "look at this one") ─┐                                    ┌─ dispatch.* events
//!  poller  (the whole list)             ─┼─> observation ─> reconcile ─> plan ─┼─ site.* commands ─> outbox ─> sinks
//!  clock   (a start or an end has come) ─┘                                    └─ schedule, for readers
//! ```
//!
//! # One webhook, from the socket to a sink
//!
//! Read these eight files in this order; they name those that help them. Whenever the coordinator returns an effect,
//! the [driver](sync::Driver) does the I/O for it and gives the result back as an
//! input: it sends the request, writes the batch, makes the attempt.
//!
//! | file | what happens in it |
//! |---|---|
//! | `listener.rs` | `listener/gate.rs` has read and checked the webhook; `answer` calls `Inbox::webhook`, which waits for the reply |
//! | `sync/coordinator.rs` | `webhook` notes that the dispatch is wanted; the end of the same `step` issues the look-up |
//! | `sync/coordinator/asking.rs` | `issue_due` sends the look-up; `take_response` turns its response into a job |
//! | `sync/coordinator/writing.rs` | `begin` has the job taken in (`sync/batch_builder.rs`, which calls the next two) and starts the commit |
//! | `engine/reconcile.rs` | `reconcile`: schedule + observation → schedule, changes; what a shown dispatch means is in `upsert.rs` |
//! | `engine/sites/step.rs` | `plan`: changes → commands of sites |
//! | `sync/coordinator/after_commit.rs` | once the batch is on disk: `commit_written` offers the events to the outboxes and answers the webhook |
//! | `delivery/outbox.rs` | `offer` (in `outbox/offering.rs`) takes the events in; `start` says which attempt the sink makes next. That a site is commanded is first written down, by a second commit (decision 3) |
//!
//! A sink then makes one attempt, for example `delivery/sinks/http.rs`.
//!
//! Comments cite rules (R1, R2 and so on): `deploy/decisions/rules.md` states them.
//! `deploy/decisions` also explains what was hard to decide.
//!
//! # The modules
//!
//! A module knows only what stands below it in this table; `tests/structure.rs` holds
//! them to that. `store` and `voltus` know the `model` alone.
//!
//! | module | what it is responsible for |
//! |---|---|
//! | [`cli`] | the commands, one file each |
//! | [`demo`] | sandbox and daemon in a story of lost webhooks |
//! | [`daemon`] | builds all parts, runs them, and stops them in order; keeps the lease with the real clock |
//! | [`sandbox`] | a stand-in for the upstream, with faults |
//! | [`config`] | options, environment and file → a checked configuration |
//! | [`status`] | the status listener, of a leader and of a standby: JSON, page, event stream, metrics, OpenAPI |
//! | [`report`] | what happened around one dispatch, as JSON, CSV and table |
//! | [`inventory`] | asks which sites are enrolled, and compares them with the routes |
//! | [`registration`] | keeps the webhook registered at the API |
//! | [`listener`] | the public webhook endpoint; that of a standby passes webhooks on |
//! | [`sync`] | the coordinator (the single writer), its driver, poller, look-ups, budget; the lease |
//! | [`delivery`] | the outbox of each sink, and the sinks |
//! | [`voltus`] | the upstream: how it is asked, and how its answers are read |
//! | [`store`] | what survives a restart: the store trait, SQLite, PostgreSQL, memory |
//! | [`engine`] | pure: what an observation changes, and what each site must do |
//! | [`trace`] | spans for an OpenTelemetry collector, and what belongs under which |
//! | [`http`] | what all listeners share, and the client that asks others |
//! | [`model`] | the words of the field: dispatch, site, entry, change, event, answer |
//! | [`trust`], [`secret`], [`seldom`], [`retry`], [`histogram`], [`clock`] | tools: until when this daemon may act, secrets from files, log lines at most once a minute, back-off, counts for metrics, the only reader of the time |
//! | [`system`] | what differs between operating systems, and what is done where something is missing |
//!
//! `fuzzing` is what `tests/fuzz` reaches, and nobody else.
//!
//! # Where to add something
//!
//! | to add | go to |
//! |---|---|
//! | a sink | implement [`delivery::Sink`] in a file of `delivery/sinks`; how it is written goes to `spec.rs` (URLs: `spec/url.rs`), how it is made to `build.rs`, its help to `config/options.rs` |
//! | a store | implement [`store::Store`] and [`store::StoreReader`] beside `store/sqlite.rs`; add it to `of_each` in `store/tests.rs`, which holds every store to the same statements; [`store::WholeSource`] and [`store::WholeTarget`] carry its state over; `--state` is read in `config/state.rs`, opened in `daemon/kept.rs`, copied in `cli/state.rs`, probed in `cli/check/checks.rs`. One that several daemons share implements [`store::LeaseStore`] too, and passes `keeps_a_lease` in `store/tests/lease.rs`; `daemon/roles.rs` and `daemon/candidacy.rs` name PostgreSQL, as the only such store, and would have to be made to take either |
//! | a rule about absence or doubt | `engine/doubts.rs`, whose `confirm` both kinds of doubt share; what is kept of a doubt is in `model/doubt.rs`. The rules are in `deploy/decisions/rules.md`. State it in `engine/tests/absence.rs`; `tests/properties/oracle.rs` and `tests/simulation/checks/answers.rs` judge it without sharing code |
//! | a rule about sites | `engine/sites/chain.rs` (what holds a site), `engine/sites/step.rs` (which sites a change concerns, and when a release waits), `engine/sites/site_step.rs` (what a site is told), `engine/sites/plan.rs` (what a start finds) |
//! | what a sink gets of an event | `model/route.rs` (patterns), `delivery/routing.rs` (what follows from them), `delivery/outbox/opening.rs` (another route at a start) |
//! | a metric | `status/metrics`, in the file of its subject: that of webhooks, polls and requests is `sync.rs`. Webhooks are counted by `listener/gate.rs` in `listener/traffic.rs`, requests and commits in `sync/timings.rs`, committed changes in `sync/counters.rs` |
//! | a span | a method of [`trace::Tracer`] in `trace/spans.rs`. What belongs under which request or commit is remembered in `sync/driver/traces.rs`; the coordinator only says what led to what (`sync/coordinator/causes.rs`) |
//! | an option | `config/options.rs`, a check in `config/checks.rs`, a field of `config.rs`. Most are handed on in `daemon/lead.rs`, those of a standby as well in `daemon/base.rs`. If daemons that take turns must have the same, it is a part of the fingerprint (`daemon/candidacy.rs`). The configuration file takes every option by itself; README and `deploy/dispatchd.toml` must name it |
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | schedule, entry | what we believe; one dispatch in it |
//! | observation | what the API or the clock said, and the place of the request among all requests |
//! | reconcile, plan | the two pure steps: observation → changes of the schedule → commands of sites |
//! | last list | the last good list of the API, kept so that an unchanged one costs nothing |
//! | look-up, check, poll | GET of one dispatch; a look-up for a doubt; GET of the list |
//! | doubt | the API seems to say that a dispatch is absent or has a lower number; two look-ups ten seconds apart confirm that, and one that denies it ends the doubt |
//! | coordinator, driver | the single-writer state machine without I/O; what does its I/O |
//! | batch, chunk | what one commit holds; the part of very many starts or ends due at once that one batch takes |
//! | outcome | what came of a webhook or of an observation |
//! | term | the number of a start of the daemon, or of a take-over of the lease; events carry it |
//! | lease | the row of a shared store that says who leads; see [`store::LeaseRow`] |
//! | leader, standby | the one daemon that acts; one that waits to take over |
//! | lost commits | what an earlier leader wrote and the shared store does not have any more; each site is then told once more what it must do |
//! | trust | until when a leader knows that no other daemon leads; endless where none can |
//! | suspended | the trust of a leader has run out: it begins nothing and promises nothing until it is renewed |
//! | deposed | a leader that has learned that another daemon leads; it steps down and becomes a standby |
//! | position, sequence | an event's place in the store; its number for receivers, which never goes back |
//! | sink, receiver | where events are delivered; who takes them there |
//! | subject, subject queue | the dispatch or site an event is about; what waits for it in a sink |
//! | attempt, acknowledged, pending | one try to deliver; the receiver took it; it has not yet |
//! | command | a `site.*` event: curtail, adjust or release |
//! | route | which events a sink gets: of which sites, programs and types |
//! | heal | a change that the poller brought and no webhook (a poll correction) |
//! | trace, span | what one webhook, poll or due time led to; one step of it, with a start and an end |
//! | lead | the time before a start for which sites are curtailed already |

pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod delivery;
pub mod demo;
pub mod engine;
#[doc(hidden)]
pub mod fuzzing;
pub mod histogram;
pub mod http;
pub mod inventory;
pub mod listener;
pub mod model;
pub mod registration;
pub mod report;
pub mod retry;
pub mod sandbox;
pub mod secret;
pub mod seldom;
pub mod status;
pub mod store;
pub mod sync;
pub mod system;
pub mod trace;
pub mod trust;
pub mod voltus;
