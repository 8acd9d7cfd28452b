//! From a seed to a scenario.

use std::num::NonZeroU32;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::dice::Dice;
use super::routes::SimulatedRoute;
use super::scenario::{
    ApiFault, DiskFault, Edit, Incident, Knobs, Plan, Scenario, SinkFault, Timed, WebhookFault,
};
use dispatchd::engine::Rules;
use dispatchd::model::SiteMode;
use dispatchd::sync::Settings;

const DAY: Duration = Duration::from_secs(86_400);

/// The scenario of `seed`.
pub(super) fn generate(seed: u64) -> Scenario {
    let dice = Dice::new(seed);
    let knobs = knobs(&mut dice.roll("knobs", &[]));
    let mut random = dice.roll("scenario", &[]);
    let polls = random.random_range(6..30);
    let lasts = (knobs.settings.poll_interval * polls)
        .clamp(Duration::from_secs(30), Duration::from_secs(240));
    let dispatches = random.random_range(1..=5);
    let mut incidents = Vec::new();
    for dispatch in 0..dispatches {
        life(dispatch, lasts, &mut random, &mut incidents);
    }
    for _ in 0..random.random_range(0..=14) {
        let at = lasts.mul_f64(random.random::<f64>());
        let what = trouble(dispatches, knobs.batches.len(), &mut random);
        incidents.push((at, what));
    }
    // Chances of its own: so the other incidents of a seed stay what they are.
    lost_state(lasts, &mut dice.roll("state", &[]), &mut incidents);
    let mut knobs = knobs;
    routes(
        &mut knobs,
        lasts,
        &mut dice.roll("routes", &[]),
        &mut incidents,
    );
    let random = &mut dice.roll("unknown fields", &[]);
    unknown_fields(dispatches, lasts, random, &mut incidents);
    orders(lasts, &mut dice.roll("orders", &[]), &mut incidents);
    trust(lasts, &mut dice.roll("trust", &[]), &mut incidents);
    Scenario {
        seed,
        knobs,
        incidents: number(incidents),
        quiet_from: lasts,
        crash_at_write: None,
    }
}

/// Gives each incident its number, and puts them in the order of time.
pub(super) fn number(incidents: Vec<(Duration, Incident)>) -> Vec<Timed> {
    let mut incidents: Vec<Timed> = (0u64..)
        .zip(incidents)
        .map(|(number, (at, what))| Timed {
            at: Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0)),
            number,
            what,
        })
        .collect();
    incidents.sort_by_key(|timed| (timed.at, timed.number));
    incidents
}

fn pick<T: Clone>(random: &mut SmallRng, from: &[T], otherwise: T) -> T {
    let index = random.random_range(0..from.len().max(1));
    from.get(index).cloned().unwrap_or(otherwise)
}

/// How world and daemons are set up.
pub(super) fn knobs(random: &mut SmallRng) -> Knobs {
    let seconds = Duration::from_secs;
    let poll_interval = pick(random, &[1, 2, 5, 5, 10, 10, 30], 10);
    let polls_a_minute = 60 / poll_interval;
    let rate = pick(random, &[4, 12, 60, 240, 240], 240)
        .max(u32::try_from(polls_a_minute * 3).unwrap_or(60));
    let sinks = random.random_range(1..=3);
    Knobs {
        settings: Settings {
            poll_interval: seconds(poll_interval),
            webhook_deadline: seconds(pick(random, &[1, 5, 5, 20], 5)),
            api_rate: NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN),
            rules: Rules {
                retain: pick(random, &[DAY * 30, DAY * 30, DAY * 30, seconds(60)], DAY),
                pre_curtail: seconds(pick(random, &[0, 0, 5, 20], 0)),
                curtail_on_test: random.random_bool(0.3),
                chunk: pick(random, &[usize::MAX, 1, 3], usize::MAX),
            },
        },
        batches: (0..sinks)
            .map(|_| pick(random, &[1, 1, 5, 100], 1))
            .collect(),
        routes: vec![SimulatedRoute::EVERYTHING; sinks],
        list_window: pick(random, &[DAY, DAY, seconds(30)], DAY),
        numbered: pick(random, &[1.0, 1.0, 1.0, 0.5, 0.0], 1.0),
        latency: Duration::from_millis(pick(random, &[20, 200, 900], 200)),
        lost: pick(random, &[0.0, 0.1, 0.5, 1.0], 0.1),
    }
}

/// What the upstream does with one dispatch.
pub(super) fn life(
    dispatch: usize,
    lasts: Duration,
    random: &mut SmallRng,
    incidents: &mut Vec<(Duration, Incident)>,
) {
    let mut at = lasts.mul_f64(random.random::<f64>() * 0.7);
    let plan = Plan {
        start: pick(random, &[-30, -1, 0, 3, 10, 20, 60], 10) + random.random_range(0..5),
        length: pick(
            random,
            &[
                None,
                Some(5),
                Some(15),
                Some(30),
                Some(90),
                Some(0),
                Some(-5),
            ],
            None,
        )
        .map(|length| length + random.random_range(0..5)),
        authorized: random.random_bool(0.95),
        test: random.random_bool(0.15),
        sites: random.random_range(1..16),
    };
    incidents.push((at, Incident::Create { dispatch, plan }));
    for _ in 0..random.random_range(0..=5) {
        at += Duration::from_secs_f64(random.random_range(0.1..30.0));
        if at >= lasts {
            break;
        }
        let what = match random.random_range(0..12) {
            0..3 => {
                let end = pick(
                    random,
                    &[None, Some(-5), Some(0), Some(10), Some(30)],
                    Some(0),
                );
                Incident::Change {
                    dispatch,
                    edit: Edit::End(end),
                }
            }
            3 => {
                let by = pick(random, &[-30, -5, 5, 30, 60], 5);
                Incident::Change {
                    dispatch,
                    edit: Edit::MoveStart(by),
                }
            }
            4 | 5 => {
                let authorized = random.random_bool(0.4);
                Incident::Change {
                    dispatch,
                    edit: Edit::Authorized(authorized),
                }
            }
            6 => {
                let sites = random.random_range(0..16);
                Incident::Change {
                    dispatch,
                    edit: Edit::Sites(sites),
                }
            }
            7 => Incident::Change {
                dispatch,
                edit: Edit::Commitments,
            },
            8 => Incident::Change {
                dispatch,
                edit: Edit::Metadata,
            },
            9 | 10 => Incident::Remove { dispatch },
            _ => Incident::PutBack { dispatch },
        };
        incidents.push((at, what));
    }
}

/// In one run of eight the state is lost, or replaced by an older copy, once or
/// twice.
fn lost_state(lasts: Duration, random: &mut SmallRng, incidents: &mut Vec<(Duration, Incident)>) {
    if !random.random_bool(0.125) {
        return;
    }
    let mut at = lasts.mul_f64(random.random_range(0.1..0.6));
    incidents.push((at, Incident::BackUp));
    for _ in 0..random.random_range(1..=2) {
        at += lasts.mul_f64(random.random_range(0.01..0.2));
        // Nobody removes a file and starts a daemon within a second.
        let down = Duration::from_millis(pick(random, &[1_000, 5_000, 30_000], 1_000));
        let restored = random.random_bool(0.6);
        incidents.push((at, Incident::LoseState { down, restored }));
    }
}

/// In a quarter of all runs receivers are for some sites and programs only, and for
/// others after a restart. Not where the state is lost: nobody can know then which
/// route a receiver was told by.
fn routes(
    knobs: &mut Knobs,
    lasts: Duration,
    random: &mut SmallRng,
    incidents: &mut Vec<(Duration, Incident)>,
) {
    let loses = |(_, what): &(Duration, Incident)| matches!(what, Incident::LoseState { .. });
    if !random.random_bool(0.25) || incidents.iter().any(loses) {
        return;
    }
    let route = |random: &mut SmallRng| SimulatedRoute {
        sites: pick(
            random,
            &[u8::MAX, u8::MAX, 0b0001, 0b0110, 0b1101, 0],
            u8::MAX,
        ),
        program: pick(random, &[None, None, Some(0), Some(1)], None),
    };
    for one in &mut knobs.routes {
        *one = route(random);
    }
    for _ in 0..random.random_range(0..=4) {
        let at = lasts.mul_f64(random.random::<f64>());
        let sink = random.random_range(0..knobs.routes.len());
        let route = route(random);
        incidents.push((at, Incident::Reroute { sink, route }));
        let down = Duration::from_millis(pick(random, &[0, 200, 5_000], 200));
        let what = if random.random_bool(0.3) {
            Incident::Crash { down }
        } else {
            let without = None;
            Incident::Restart { down, without }
        };
        incidents.push((at + Duration::from_millis(1), what));
    }
}

/// In a quarter of all runs dispatches and sites get a field that nobody knows, and
/// other values of it.
fn unknown_fields(
    dispatches: usize,
    lasts: Duration,
    random: &mut SmallRng,
    incidents: &mut Vec<(Duration, Incident)>,
) {
    if !random.random_bool(0.25) {
        return;
    }
    for _ in 0..random.random_range(1..=8) {
        let at = lasts.mul_f64(random.random::<f64>());
        let dispatch = random.random_range(0..dispatches.max(1));
        let site = random.random_bool(0.7).then(|| random.random_range(0..4));
        let value = random.random_bool(0.8).then(|| random.random_range(0..3));
        let edit = Edit::Unknown { site, value };
        incidents.push((at, Incident::Change { dispatch, edit }));
    }
}

/// In a quarter of all runs an operator decides about sites for a while.
fn orders(lasts: Duration, random: &mut SmallRng, incidents: &mut Vec<(Duration, Incident)>) {
    if !random.random_bool(0.25) {
        return;
    }
    for _ in 0..random.random_range(1..=6) {
        let at = lasts.mul_f64(random.random::<f64>());
        let site = random.random_range(0..4);
        let state = pick(
            random,
            &[SiteMode::Curtailed, SiteMode::Normal],
            SiteMode::Normal,
        );
        let lasts = Duration::from_secs(pick(random, &[1, 5, 20, 60, 600], 20));
        let order = random.random_bool(0.75).then_some((state, lasts));
        incidents.push((at, Incident::Order { site, order }));
    }
}

/// In a quarter of all runs the daemon does not always know whether it leads.
fn trust(lasts: Duration, random: &mut SmallRng, incidents: &mut Vec<(Duration, Incident)>) {
    if !random.random_bool(0.25) {
        return;
    }
    for _ in 0..random.random_range(1..=4) {
        let at = lasts.mul_f64(random.random::<f64>());
        let left = Duration::from_millis(random.random_range(0..3_500));
        let lasts = Duration::from_millis(pick(random, &[300, 2_000, 8_000, 30_000], 2_000));
        incidents.push((at, Incident::TrustRunsOut { left, lasts }));
    }
}

fn trouble(dispatches: usize, sinks: usize, random: &mut SmallRng) -> Incident {
    let lasts = Duration::from_millis(pick(random, &[500, 3_000, 10_000, 40_000, 100_000], 3_000))
        .mul_f64(random.random_range(0.5..1.5));
    let down = Duration::from_millis(pick(random, &[0, 200, 2_000, 20_000], 200));
    let by = Duration::from_secs(pick(random, &[2, 8, 30, 120], 8));
    let retry_after = Duration::from_secs(pick(random, &[0, 2, 10, 40], 2));
    match random.random_range(0..24) {
        0..6 => {
            let fault = match random.random_range(0..16) {
                0 => ApiFault::Down,
                1 => ApiFault::Errors,
                2 => ApiFault::TooFast { retry_after: None },
                3 => ApiFault::TooFast {
                    retry_after: Some(retry_after),
                },
                4 => ApiFault::Unavailable { retry_after },
                5 | 6 => ApiFault::Replica {
                    lag: Duration::from_millis(pick(
                        random,
                        &[50, 400, 2_000, 5_000, 12_000, 40_000, 150_000],
                        2_000,
                    )),
                },
                7 => ApiFault::EmptyList,
                8 => ApiFault::Holes,
                9 => ApiFault::Vanish,
                10 => ApiFault::Garbled,
                11 => ApiFault::Nameless,
                12 => ApiFault::Another,
                13 | 14 => ApiFault::Cached { age: by },
                _ => ApiFault::Slow,
            };
            Incident::Api { fault, lasts }
        }
        6 | 7 => {
            let fault = pick(
                random,
                &[
                    WebhookFault::Lost,
                    WebhookFault::Late,
                    WebhookFault::Doubled,
                ],
                WebhookFault::Lost,
            );
            Incident::Webhooks { fault, lasts }
        }
        8..13 => {
            let fault = match random.random_range(0..12) {
                0 | 1 => SinkFault::Down,
                2..5 => SinkFault::Unknown,
                5 | 6 => SinkFault::Late,
                7 | 8 => SinkFault::Slow,
                9 | 10 => SinkFault::Busy,
                _ => match by.as_secs() {
                    2 => SinkFault::Gone,
                    30 => SinkFault::GoneForSome,
                    _ => SinkFault::HangsForSome,
                },
            };
            let sink = random.random_range(0..sinks.max(1));
            Incident::Sink { sink, fault, lasts }
        }
        13 => Incident::Disk {
            fault: DiskFault::Full,
            lasts,
        },
        14 => Incident::Disk {
            fault: DiskFault::Slow,
            lasts,
        },
        15 => Incident::Crash { down },
        16 | 17 => Incident::CrashAtCommit {
            written: random.random_bool(0.6),
            down,
        },
        18 => Incident::CrashStorm { lasts },
        19 => Incident::Restart {
            down,
            without: random
                .random_bool(0.5)
                .then(|| random.random_range(0..sinks.max(1))),
        },
        20 => match random.random_range(0..4) {
            0 => Incident::JumpAhead { by },
            // Without a draw of its own, so that older seeds stay what they were.
            1 if lasts.subsec_millis().is_multiple_of(2) => Incident::RunAhead {
                by: by * 20,
                lasts: lasts.min(Duration::from_secs(20)),
            },
            1 => Incident::FallBack { by, lasts },
            2 => Incident::Suspend { lasts: by },
            _ => Incident::Stall { lasts: by },
        },
        21 if random.random_bool(0.3) => Incident::Flood {
            webhooks: pick(random, &[5, 40, 150], 5),
        },
        21 => Incident::PollByHand,
        22 => Incident::RestoreAll { back: by },
        _ => {
            let known = random.random_bool(0.5);
            let dispatch = known.then(|| random.random_range(0..dispatches.max(1)));
            Incident::Junk { dispatch }
        }
    }
}
