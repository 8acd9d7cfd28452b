//! What could not be read stays as it is (rule R11).

use super::*;

fn site(name: &str, kw: impl Into<Option<f64>>) -> Arc<Site> {
    Arc::new(Site {
        extra: Default::default(),
        id: SiteId::new(name).unwrap(),
        name: format!("Plant {name}"),
        customer_location_id: format!("loc-{name}"),
        commitment: kw.into().map(Kilowatts),
    })
}

/// An open dispatch of these sites.
fn of(sites: Vec<Arc<Site>>) -> Dispatch {
    Dispatch {
        sites,
        program: Program {
            id: Some(867),
            name: Some("Peak".into()),
            ..Program::default()
        },
        creation_time: Some(at(-100)),
        metadata: serde_json::json!({"note": 1}),
        extra: Default::default(),
        ..dispatch(-10, None)
    }
}

const SITES: UnreadParts = UnreadParts {
    sites: true,
    names: false,
    program: false,
    creation_time: false,
    metadata: false,
};

const NO_DOUBT: UnreadParts = UnreadParts {
    sites: false,
    ..SITES
};

impl World {
    fn in_part(&mut self, now: i64, dispatch: Dispatch, unread: UnreadParts) -> Vec<String> {
        let asked = self.ask();
        let dispatch = Arc::new(dispatch);
        let reading = Reading::InPart { dispatch, unread };
        self.answer(
            now,
            asked,
            Answer::List(Arc::new(List::new(vec![reading], 0))),
        )
    }

    fn held(&self) -> Arc<Dispatch> {
        Arc::clone(&self.schedule.get(&id("dkmq")).unwrap().dispatch)
    }
}

#[test]
fn sites_in_doubt_keep_all_that_were_held_and_add_what_was_read() {
    let mut world = World::new();
    world.list(0, vec![of(vec![site("a", 1.0), site("b", 2.0)])]);
    let read = of(vec![site("b", 3.0), site("c", 4.0)]);
    assert_eq!(world.in_part(1, read, SITES), ["updated sites"]);
    let expected = [site("a", 1.0), site("b", 3.0), site("c", 4.0)];
    assert_eq!(world.held().sites, expected);
    assert_eq!(world.in_part(2, of(vec![]), SITES), [""; 0]);
    assert_eq!(world.held().sites, expected);
    // A whole answer takes away what it does not name.
    assert_eq!(
        world.list(3, vec![of(vec![site("c", 4.0)])]),
        ["updated sites"]
    );
    assert_eq!(world.held().sites, [site("c", 4.0)]);
}

#[test]
fn the_rest_of_a_dispatch_whose_sites_are_in_doubt_is_used() {
    let mut world = World::new();
    world.list(0, vec![of(vec![site("a", 1.0)])]);
    let ended = Dispatch {
        end_time: Some(at(1)),
        ..of(vec![])
    };
    assert_eq!(
        world.in_part(1, ended, SITES),
        ["updated end_time", "ended"]
    );
    assert_eq!(world.held().sites, [site("a", 1.0)]);
}

#[test]
fn what_is_first_seen_in_part_is_taken_in_as_far_as_it_could_be_read() {
    let mut world = World::new();
    let told = world.in_part(0, of(vec![site("a", 1.0)]), SITES);
    assert_eq!(told, ["created", "started"]);
    assert_eq!(world.held().sites, [site("a", 1.0)]);
}

#[test]
fn every_detail_in_doubt_stays_as_it_was() {
    let mut world = World::new();
    let known = of(vec![site("a", 1.0)]);
    world.list(0, vec![known.clone()]);
    let nameless = Arc::new(Site {
        name: String::new(),
        customer_location_id: String::new(),
        ..Site::clone(&known.sites[0])
    });
    let cases = [
        (
            Dispatch {
                sites: vec![nameless],
                ..known.clone()
            },
            UnreadParts {
                names: true,
                ..NO_DOUBT
            },
        ),
        (
            Dispatch {
                program: Program {
                    name: Some("Peak".into()),
                    ..Program::default()
                },
                ..known.clone()
            },
            UnreadParts {
                program: true,
                ..NO_DOUBT
            },
        ),
        (
            Dispatch {
                creation_time: None,
                ..known.clone()
            },
            UnreadParts {
                creation_time: true,
                ..NO_DOUBT
            },
        ),
        (
            Dispatch {
                metadata: serde_json::json!({}),
                extra: Default::default(),
                ..known.clone()
            },
            UnreadParts {
                metadata: true,
                ..NO_DOUBT
            },
        ),
    ];
    for (now, (read, unread)) in (1..).zip(cases) {
        assert_eq!(world.in_part(now, read.clone(), unread), [""; 0]);
        assert_eq!(*world.held(), known, "{unread:?}");
        // Where there is no doubt, what is not there any more is gone.
        let mut other = World::new();
        other.list(0, vec![known.clone()]);
        assert_eq!(other.list(now, vec![read]).len(), 1, "{unread:?}");
    }
}

#[test]
fn names_in_doubt_bring_back_no_site_that_is_gone() {
    let mut world = World::new();
    world.list(0, vec![of(vec![site("a", 1.0), site("b", 2.0)])]);
    let unread = UnreadParts {
        names: true,
        ..NO_DOUBT
    };
    world.in_part(1, of(vec![site("b", 2.0)]), unread);
    assert_eq!(world.held().sites, [site("b", 2.0)]);
}

#[test]
fn a_dispatch_read_in_part_is_seen_and_confirmed_at_every_poll() {
    let mut world = World::new();
    world.list(0, vec![of(vec![site("a", 1.0)])]);
    let reading = Reading::InPart {
        dispatch: Arc::new(of(vec![])),
        unread: SITES,
    };
    let list = Arc::new(List::new(vec![reading], 0));
    for now in 1..4 {
        let asked = world.ask();
        let told = world.answer(now, asked, Answer::List(Arc::clone(&list)));
        assert_eq!(told, [""; 0]);
        let entry = world.schedule.get(&id("dkmq")).unwrap();
        assert_eq!((entry.asked, entry.last_confirmed), (asked, at(now)));
        assert!(entry.inquiry.absent.is_none());
    }
    // The same bytes mean something else once more sites are held.
    world.look_up(5, of(vec![site("a", 1.0), site("b", 2.0)]));
    let asked = world.ask();
    assert_eq!(world.answer(6, asked, Answer::List(list)), [""; 0]);
    assert_eq!(world.held().sites.len(), 2);
}

#[test]
fn of_one_listed_twice_that_was_read_in_part_the_higher_number_counts_too() {
    let in_part = |number, sites| Reading::InPart {
        dispatch: Arc::new(numbered(number, of(sites))),
        unread: SITES,
    };
    let whole = |number, sites| Reading::Dispatch(Arc::new(numbered(number, of(sites))));
    let held = |first: Reading, second: Reading| {
        let mut world = World::new();
        world.list(0, vec![numbered(1, of(vec![site("a", 1.0)]))]);
        let asked = world.ask();
        let list = Arc::new(List::new(vec![first, second], 0));
        world.answer(1, asked, Answer::List(list));
        let held = world.held();
        (held.modification_number.unwrap(), held.sites.len())
    };
    let b = || vec![site("b", 2.0)];
    assert_eq!(held(in_part(3, b()), whole(2, b())), (3, 2));
    assert_eq!(held(whole(3, b()), in_part(2, b())), (3, 1));
    assert_eq!(held(whole(2, b()), in_part(2, b())), (2, 2));
}
