//! What a report says of commands that ended in every way.

use super::*;
use crate::model::{CommandOrigin, DispatchId};
use crate::store::tests::{at, entry};
use crate::store::{Attempted, Told};

const CURTAIL: &str = "site.curtail";
const RELEASE: &str = "site.release";

fn line(sink: &str, position: u64, command: &str, end: DeliveryEnd) -> CommandLine {
    CommandLine {
        sink: sink.into(),
        settled: SettledCommand {
            cause: DispatchId::new("a").unwrap(),
            position,
            site: "s".into(),
            command: command.into(),
            due: at(10),
            known: at(11),
            tried: Some(Tried {
                first: at(11),
                last: at(12),
                count: 2,
            }),
            end,
            last_error: None,
        },
        made_up: None,
    }
}

fn newest(position: u64, command: &str) -> Event {
    Event {
        position,
        term: 1,
        id: Event::id_at("store", 1, position),
        event_type: command.into(),
        subject: "s".into(),
        time: at(20),
        sequence: position,
        unconditional: false,
        origin: Some(Arc::new(CommandOrigin {
            cause: DispatchId::new("a").unwrap(),
            due: at(20),
            known: at(20),
        })),
        data: Arc::new(serde_json::value::to_raw_value(&()).unwrap()),
    }
}

fn sink(name: &str) -> SinkLine {
    SinkLine {
        sink: name.into(),
        ..SinkLine::default()
    }
}

fn attempted(position: u64, curtailed: bool, acknowledged: bool) -> BTreeMap<SiteId, Attempted> {
    let last = Attempted {
        position,
        curtailed,
        acknowledged,
        held: curtailed && acknowledged,
    };
    BTreeMap::from([(SiteId::new("s").unwrap(), last)])
}

fn report(record: &DispatchRecord) -> Report {
    Report::new(&entry("a"), &[], record, None)
}

fn verdict(commands: Vec<CommandLine>) -> (Verdict, Option<f64>) {
    let record = DispatchRecord {
        commands,
        sinks: vec![sink("plant")],
        ..DispatchRecord::default()
    };
    let report = report(&record);
    let [row] = &report.deliveries[..] else {
        panic!("{report:?}");
    };
    (row.verdict, row.lateness_seconds)
}

#[test]
fn lateness_counts_from_when_a_command_was_due_and_known() {
    let at_once = DeliveryEnd::Acknowledged(at(11));
    assert_eq!(
        verdict(vec![line("plant", 1, CURTAIL, at_once)]),
        (Verdict::OnTime, Some(0.0))
    );
    let within = DeliveryEnd::Acknowledged(at(13));
    assert_eq!(
        verdict(vec![line("plant", 1, CURTAIL, within)]),
        (Verdict::OnTime, Some(2.0))
    );
    let late = DeliveryEnd::Acknowledged(at(14));
    let commands = vec![
        line("plant", 1, CURTAIL, late),
        line("plant", 2, RELEASE, at_once),
    ];
    assert_eq!(verdict(commands), (Verdict::Late, Some(3.0)));
}

#[test]
fn a_command_that_nothing_made_up_for_was_never_told() {
    let told = DeliveryEnd::Acknowledged(at(12));
    for end in [DeliveryEnd::Superseded, DeliveryEnd::Skipped] {
        let commands = vec![
            line("plant", 1, CURTAIL, end),
            line("plant", 2, RELEASE, told),
        ];
        assert_eq!(verdict(commands), (Verdict::Never, Some(1.0)));
        let made_up = CommandLine {
            made_up: Some(at(15)),
            ..line("plant", 1, CURTAIL, end)
        };
        assert_eq!(verdict(vec![made_up]), (Verdict::Late, Some(4.0)));
    }
    assert_eq!(verdict(Vec::new()), (Verdict::NotDue, None));
}

#[test]
fn what_is_pending_is_told_with_its_attempts() {
    let tried = Tried {
        first: at(20),
        last: at(25),
        count: 7,
    };
    let told = attempted(5, false, false);
    let record = DispatchRecord {
        commands: vec![line("plant", 1, CURTAIL, DeliveryEnd::Acknowledged(at(11)))],
        newest: vec![newest(5, RELEASE)],
        sinks: vec![SinkLine {
            attempted: told,
            ..sink("plant")
        }],
        ..DispatchRecord::default()
    };
    let pending = Pending {
        tried: Some(tried),
        last_error: Some("down".into()),
    };
    let live = Live {
        sinks: BTreeMap::from([("plant".into(), BTreeMap::from([(5, pending)]))]),
    };
    let shown = Report::new(&entry("a"), &[], &record, Some(&live));
    let row = &shown.deliveries[0];
    assert_eq!(row.verdict, Verdict::Never);
    let release = &row.commands[1];
    assert_eq!(release.delivery, Delivery::Pending);
    assert_eq!((release.due, release.attempts), (at(20), 7));
    assert_eq!(release.first_attempt, Some(at(20)));
    assert_eq!(release.last_error.as_deref(), Some("down"));
    // A sink that the daemon delivers to no more is not waited for.
    let shown = Report::new(&entry("a"), &[], &record, Some(&Live::default()));
    assert_eq!(shown.deliveries[0].commands.len(), 1);
}

#[test]
fn a_sink_that_need_not_be_told_is_not_waited_for() {
    let commands = |event: &Event, attempted: BTreeMap<SiteId, Attempted>| {
        let record = DispatchRecord {
            newest: vec![event.clone()],
            sinks: vec![SinkLine {
                attempted,
                ..sink("plant")
            }],
            ..DispatchRecord::default()
        };
        report(&record).deliveries[0].commands.len()
    };
    let (curtail, release) = (newest(5, CURTAIL), newest(5, RELEASE));
    assert_eq!(
        commands(&release, BTreeMap::new()),
        0,
        "it was never curtailed"
    );
    assert_eq!(commands(&curtail, BTreeMap::new()), 1);
    assert_eq!(commands(&release, attempted(3, true, true)), 1);
    assert_eq!(
        commands(&curtail, attempted(5, true, true)),
        0,
        "an older version told it"
    );
}

#[test]
fn sites_at_sinks_are_counted_and_routes_hold() {
    let elsewhere = r#"{"sites":["t*"],"programs":["*"],"events":["*"]}"#;
    let record = DispatchRecord {
        commands: vec![
            line("plant", 1, CURTAIL, DeliveryEnd::Acknowledged(at(14))),
            line("office", 1, CURTAIL, DeliveryEnd::Acknowledged(at(11))),
            line("broken", 1, CURTAIL, DeliveryEnd::Superseded),
        ],
        sinks: vec![
            sink("broken"),
            SinkLine {
                route: Some(elsewhere.into()),
                ..sink("elsewhere")
            },
            sink("new"),
            sink("office"),
            sink("plant"),
        ],
        ..DispatchRecord::default()
    };
    let report = report(&record);
    let sinks: Vec<&str> = report.deliveries.iter().map(|row| &*row.sink).collect();
    assert_eq!(sinks, ["broken", "new", "office", "plant"]);
    let totals = report.totals;
    assert_eq!(
        (totals.on_time, totals.late, totals.never, totals.not_due),
        (1, 1, 1, 1)
    );
    assert_eq!(totals.latest_seconds, Some(3.0));
    assert!((totals.on_time_within_seconds - 2.0).abs() < f64::EPSILON);
    // One row each, and a head.
    let csv = report.csv();
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 6, "{csv}");
    assert!(lines[1].starts_with("a,s,Übung,,broken,never,"), "{csv}");
    assert!(lines[4].contains(",late,3.000,"), "{csv}");
    let cells = |line: &str| line.split(',').count();
    assert!(
        lines[..5].iter().all(|line| cells(line) == cells(lines[0])),
        "{csv}"
    );
    assert!(
        report.table().contains("1 on time (within 2 s), 1 late"),
        "{}",
        report.table()
    );
}

#[test]
fn states_tell_by_which_way_they_came_and_how_many_were_left_out() {
    let state = |number, told, body: Option<&str>| StateLine {
        number,
        told,
        bytes: 0,
        body: body.map(Arc::from),
    };
    let told = Told {
        way: Way::Check,
        asked: at(1),
        answered: at(2),
    };
    let record = DispatchRecord {
        states: vec![
            state(1, None, Some(r#"{"authorized": true}"#)),
            state(7, Some(told), None),
        ],
        ..DispatchRecord::default()
    };
    let report = report(&record);
    assert_eq!(report.states_left_out, 5);
    assert_eq!(report.states[0].body["authorized"], true);
    assert_eq!((report.states[0].way, report.states[0].asked), (None, None));
    assert_eq!(report.states[1].body, Value::Null);
    assert_eq!(report.states[1].way, Some(Way::Check));
    assert_eq!(report.states[1].answered, Some(at(2)));
}
