//! What can happen, and how often: stories are lists of [`Op`]s.

use proptest::prelude::*;

/// Something that happens. Ids, questions and answers are picked by a number
/// taken modulo how many there are, so that every story means something.
#[derive(Debug, Clone)]
pub enum Op {
    /// The upstream changes.
    Upstream(Event),
    /// A question leaves: for one dispatch, or for the list.
    Ask { which: Option<u8>, webhook: bool },
    /// A question on its way is answered.
    Answer { which: u8, seen: u8, fault: Fault },
    /// An answer is delivered once more.
    Again { which: u8 },
    /// A question on its way fails.
    Lose { which: u8 },
    /// A list is asked for and answered at once, and so are the look-ups that
    /// it asks for, except those that are late.
    Poll {
        list: Fault,
        look_ups: Fault,
        late: u8,
    },
    /// From now on the API's clock agrees with ours, or no longer.
    ClockAgrees(bool),
    /// The wall clock moves, either way, and somebody looks at it or not.
    Pass { seconds: i64, noticed: bool },
    /// The daemon starts again from its store.
    Restart,
}

/// A change of the upstream.
#[derive(Debug, Clone)]
pub enum Event {
    Create {
        which: u8,
        start: i64,
        length: Option<i64>,
        authorized: bool,
    },
    /// Not every upstream counts its changes.
    Edit {
        which: u8,
        edit: Edit,
        counted: bool,
    },
    Remove {
        which: u8,
    },
    PutBack {
        which: u8,
    },
    /// It leaves the list, or comes back into it.
    List {
        which: u8,
        listed: bool,
    },
    /// Answers carry numbers from now on, or no longer.
    Number(bool),
    /// A backup of that many moments ago is put in place.
    Restore {
        back: u8,
    },
}

/// A change of one dispatch. Times are seconds from now, or from what they are.
#[derive(Debug, Clone, Copy)]
pub enum Edit {
    Start(i64),
    StartBy(i64),
    End(Option<i64>),
    EndBy(i64),
    Sites(u8),
    Metadata(u8),
    Authorized(bool),
    Test(bool),
}

/// What is wrong with an answer. Masks tell which dispatches it hits.
#[derive(Debug, Clone)]
pub enum Fault {
    None,
    /// A cache answers with what was true that many moments before the question.
    Stale(u8),
    Lacks(u8),
    Unreadable(u8),
    /// Some sites cannot be read.
    InPart(u8),
    Nameless(u8),
    /// Each dispatch is there twice, once as it was some moments ago.
    Doubled {
        back: u8,
        first: bool,
    },
    Unnumbered,
    /// The look-up says 404 although the dispatch is there.
    Gone,
}

/// Stories with everything that can go wrong.
pub fn stories() -> impl Strategy<Value = Vec<Op>> {
    let pass = prop_oneof![
        6 => 1..12i64,
        2 => -25..0i64,
        1 => 30..90i64,
        // Far enough for an answer to undo what has passed.
        1 => -400..-60i64,
        1 => 100..400i64,
    ];
    story(op(fault().boxed(), event(true).boxed(), pass.boxed()))
}

/// Stories in which every answer is true, no backup is put in place and the
/// clock only goes forward. Questions are still lost, late and overtaken.
pub fn calm_stories() -> impl Strategy<Value = Vec<Op>> {
    let (fault, pass) = (Just(Fault::None).boxed(), (1..12i64).boxed());
    story(op(fault, event(false).boxed(), pass))
}

/// Stories in which one dispatch, that never ends, may be gone or not.
pub fn doubtful_stories() -> impl Strategy<Value = Vec<Op>> {
    const WHICH: u8 = 0;
    let created = Op::Upstream(Event::Create {
        which: WHICH,
        start: 0,
        length: None,
        authorized: true,
    });
    let fault = prop_oneof![
        1 => Just(Fault::None),
        1 => Just(Fault::Unreadable(1)),
        4 => Just(Fault::Lacks(1)),
    ];
    let gone = || prop_oneof![Just(Fault::None), Just(Fault::Gone)];
    let op = prop_oneof![
        4 => (fault, gone(), 0..2u8)
            .prop_map(|(list, look_ups, late)| Op::Poll { list, look_ups, late }),
        1 => Just(Op::Ask { which: None, webhook: true }),
        2 => Just(Op::Ask { which: Some(WHICH), webhook: true }),
        3 => (any::<u8>(), gone())
            .prop_map(|(which, fault)| Op::Answer { which, seen: u8::MAX, fault }),
        1 => any::<u8>().prop_map(|which| Op::Again { which }),
        4 => (1..12i64).prop_map(|seconds| Op::Pass { seconds, noticed: true }),
    ];
    prop::collection::vec(op, 1..30)
        .prop_map(move |rest| [vec![created.clone(), good_poll()], rest].concat())
}

fn good_poll() -> Op {
    Op::Poll {
        list: Fault::None,
        look_ups: Fault::None,
        late: 0,
    }
}

/// It begins with something to talk about.
fn story(op: impl Strategy<Value = Op>) -> impl Strategy<Value = Vec<Op>> {
    let beginning = prop::collection::vec(create().prop_map(Op::Upstream), 1..3);
    let rest = prop::collection::vec(op, 1..60);
    (beginning, rest).prop_map(|(beginning, rest)| [beginning, rest].concat())
}

/// Mostly the same dispatch, so that its history gets long.
fn which() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0), 1 => 1..3u8]
}

fn op(
    fault: BoxedStrategy<Fault>,
    event: BoxedStrategy<Event>,
    pass: BoxedStrategy<i64>,
) -> impl Strategy<Value = Op> {
    let late = prop_oneof![2 => Just(0), 1 => 0..8u8];
    let about = prop_oneof![1 => Just(None), 2 => which().prop_map(Some)];
    prop_oneof![
        8 => event.prop_map(Op::Upstream),
        3 => (about, any::<bool>()).prop_map(|(which, webhook)| Op::Ask { which, webhook }),
        5 => (any::<u8>(), any::<u8>(), fault.clone())
            .prop_map(|(which, seen, fault)| Op::Answer { which, seen, fault }),
        1 => any::<u8>().prop_map(|which| Op::Again { which }),
        1 => any::<u8>().prop_map(|which| Op::Lose { which }),
        6 => (fault.clone(), prop_oneof![2 => Just(Fault::None), 1 => fault], late)
            .prop_map(|(list, look_ups, late)| Op::Poll { list, look_ups, late }),
        4 => (pass, any::<bool>()).prop_map(|(seconds, noticed)| Op::Pass { seconds, noticed }),
        1 => Just(Op::Restart),
        1 => any::<bool>().prop_map(Op::ClockAgrees),
    ]
}

fn create() -> impl Strategy<Value = Event> {
    let length = prop_oneof![1 => Just(None), 3 => (-3..20i64).prop_map(Some)];
    let authorized = prop::bool::weighted(0.9);
    (which(), -10..20i64, length, authorized).prop_map(|(which, start, length, authorized)| {
        Event::Create {
            which,
            start,
            length,
            authorized,
        }
    })
}

fn event(restores: bool) -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => create(),
        10 => (which(), edit(), prop::bool::weighted(0.8))
            .prop_map(|(which, edit, counted)| Event::Edit { which, edit, counted }),
        1 => which().prop_map(|which| Event::Remove { which }),
        1 => which().prop_map(|which| Event::PutBack { which }),
        1 => (which(), any::<bool>()).prop_map(|(which, listed)| Event::List { which, listed }),
        1 => any::<bool>().prop_map(Event::Number),
        2 * u32::from(restores) => (1..6u8).prop_map(|back| Event::Restore { back }),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => (-10..20i64).prop_map(Edit::Start),
        1 => (-9..9i64).prop_map(Edit::StartBy),
        2 => prop::option::weighted(0.8, -10..30i64).prop_map(Edit::End),
        1 => (-9..9i64).prop_map(Edit::EndBy),
        1 => (0..3u8).prop_map(Edit::Sites),
        1 => (0..3u8).prop_map(Edit::Metadata),
        2 => any::<bool>().prop_map(Edit::Authorized),
        1 => any::<bool>().prop_map(Edit::Test),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        8 => Just(Fault::None),
        2 => (1..6u8).prop_map(Fault::Stale),
        3 => (1..8u8).prop_map(Fault::Lacks),
        1 => (1..8u8).prop_map(Fault::Unreadable),
        2 => (1..8u8).prop_map(Fault::InPart),
        1 => (1..8u8).prop_map(Fault::Nameless),
        1 => (1..4u8, any::<bool>()).prop_map(|(back, first)| Fault::Doubled { back, first }),
        1 => Just(Fault::Unnumbered),
        2 => Just(Fault::Gone),
    ]
}
