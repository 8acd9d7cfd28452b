//! What a file sets, and what is wrong with it.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> ConfigFile {
    ConfigFile::parse(Path::new("/etc/d/d.toml"), text.as_bytes())
}

/// What is wrong with `text`, without the file's name.
fn wrong(text: &str) -> Vec<String> {
    let problems = parse(text).problems();
    let lines = problems.iter().map(ToString::to_string);
    lines
        .map(|line| line.strip_prefix("/etc/d/d.toml:").unwrap().to_owned())
        .collect()
}

fn texts(file: &ConfigFile, name: &str) -> Vec<String> {
    file.settings[name].texts.clone()
}

#[test]
fn options_are_set_by_their_names() {
    let file = parse(
        "poll-interval = \"1m\"\napi-rate = 1_000\npeer-rate = \"7\"\napi-max-body = 0x100\n\
         curtail-on-test = true\nallow-remote-status = false\nlog-format = \"json\"\n\
         status-host = [\"a\", \"b\"]\nsink = \"stdout\"\n",
    );
    assert_eq!(file.problems(), []);
    for (name, expected) in [
        ("poll-interval", &["1m"][..]),
        ("api-rate", &["1000"]),
        ("peer-rate", &["7"]),
        ("api-max-body", &["256"]),
        ("curtail-on-test", &["true"]),
        ("allow-remote-status", &["false"]),
        ("log-format", &["json"]),
        ("status-host", &["a", "b"]),
    ] {
        assert_eq!(texts(&file, name), expected, "{name}");
    }
    assert_eq!(texts(&parse("status-host = \"a\""), "status-host"), ["a"]);
    assert_eq!(file.place_of("api-rate").unwrap().line, 2);
    assert_eq!(parse("").problems(), []);
    assert_eq!(parse("\u{feff}# only a comment\r\n").problems(), []);
}

#[test]
fn a_relative_path_begins_at_the_folder_of_the_file() {
    let file = parse(
        "api-key-file = \"key\"\nstate = \"/var/d.db\"\nnode = \"n\"\n\
         sink = [\"exec:bin/notify\", \"exec:/bin/x\", \"http://a.example/x\"]",
    );
    assert_eq!(texts(&file, "api-key-file"), ["/etc/d/key"]);
    assert_eq!(texts(&file, "state"), ["/var/d.db"]);
    assert_eq!(texts(&file, "node"), ["n"]);
    let to = file.sinks().iter();
    let to: Vec<_> = to.map(|sink| sink.to.clone().unwrap().text).collect();
    assert_eq!(
        to,
        [
            "exec:/etc/d/bin/notify",
            "exec:/bin/x",
            "http://a.example/x"
        ]
    );
    for whole in [":memory:", "postgres://db.example/d"] {
        let file = parse(&format!("state = \"{whole}\""));
        assert_eq!(texts(&file, "state"), [whole]);
    }
    // The working directory may be another one later.
    let here = ConfigFile::parse(Path::new("d.toml"), b"state = \"s.db\"");
    let expected = std::env::current_dir().unwrap().join("s.db");
    assert_eq!(texts(&here, "state"), [expected.to_str().unwrap()]);
}

#[test]
fn all_that_is_wrong_is_told_with_its_line_and_the_remedy() {
    assert_eq!(
        wrong(
            "pol-interval = \"5s\"\n\
             poll_interval = \"5s\"\n\
             poll-interval = 30\n\
             api-rate = 0\n\
             api-rat = 1\n\
             log-format = \"xml\"\n\
             curtail-on-test = \"yes\"\n\
             listen = [\"127.0.0.1:1\"]\n\
             api-version = 2022-04-15\n\
             state = 5\n\
             node = true\n\
             api-url = \" \"\n\
             config = \"x\"\n\
             zebra = 1\n\
             status-host = [\"a\", 1]\n\
             webhook-deadline = 1.5\n\
             [api]\n\
             url = \"x\"\n"
        ),
        [
            "1: unknown option `pol-interval`: did you mean `poll-interval`?",
            "2: unknown option `poll_interval`: did you mean `poll-interval`?",
            "3: poll-interval: `30` cannot be used: write a number and its unit, such as 30s, 500ms or 5m",
            "4: api-rate: `0` cannot be used: it must be a whole number from 1 to 4294967295",
            "5: unknown option `api-rat`: did you mean `api-rate`?",
            "6: log-format: `xml` is not one of text, json",
            "7: curtail-on-test: is a string; write true or false, without quotes",
            "8: listen: is a list and takes one value; write it without [ ]",
            "9: api-version: is a date or time and must be a string; write it in quotes: \"2022-04-15\"",
            "10: state: is a whole number and must be a string; write it in quotes: \"5\"",
            "11: node: is a boolean and must be a string; write it in quotes: \"true\"",
            "12: api-url: is empty; give a value, or leave the option out",
            "13: config: cannot be set in the file itself; leave it out",
            "14: unknown option `zebra`; `dispatchd run --help` lists the options",
            "15: status-host: is a whole number and must be a string; write it in quotes: \"1\"",
            "16: webhook-deadline: is a decimal number and must be a string; write it in quotes: \"1.5\"",
            "17: unknown table `api`; options stand at the top of the file, each by its name, and the only tables are [[sink]]",
        ]
    );
}

#[test]
fn a_secret_is_refused_without_being_repeated() {
    for name in ["api-key", "webhook-secret", "sink-secret", "status-token"] {
        for value in ["\"hush\"", "17", "[\"hush\"]", "\"\""] {
            let said = wrong(&format!("{name} = {value}"));
            let expected = format!(
                "1: {name}: a secret does not belong in this file; write it into a file of its own and name that here: {name}-file = \"PATH\""
            );
            assert_eq!(said, [expected]);
        }
    }
    for text in [
        "public-url = \"hush",
        "api-key = hush",
        "sink = \"http://me:hush@a.example",
    ] {
        let said = wrong(text).concat();
        assert!(said.starts_with("1: is not TOML: "), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn what_is_no_toml_is_told_line_by_line_and_the_rest_is_read() {
    assert_eq!(
        wrong("node = \"a\napi-rate = 0\nretain = 30d\nlisten\nlog-format = \"text\"\n"),
        [
            "1: is not TOML: invalid basic string, expected `\"`",
            "2: api-rate: `0` cannot be used: it must be a whole number from 1 to 4294967295",
            "3: is not TOML: string values must be quoted, expected literal string",
            "4: is not TOML: key with no value, expected `=`",
        ]
    );
    let twice = wrong("node = \"a\"\nnode = \"b\"\n");
    assert_eq!(twice, ["2: is not TOML: duplicate key"]);
    let file = ConfigFile::parse(Path::new("x"), b"node = \"a\"\nretain = \"\xff\"\n");
    let said: Vec<_> = file.problems().iter().map(ToString::to_string).collect();
    assert_eq!(said, ["x:2: is not text in UTF-8; save the file as UTF-8"]);
    // It may have said how the API's key is given.
    assert!(file.is_unreadable("api-key-file"));
}

#[test]
fn a_file_that_is_something_else_is_told_in_a_hundred_errors() {
    for line in ["zebra\n", "[[sink]]\nzebra = 1\n"] {
        let said = wrong(&line.repeat(100_000));
        assert_eq!(said.len(), 100);
        assert!(said[99].ends_with("; only the first 100 errors are told, correct them first"));
    }
    let many: String = (0..10_000).map(|at| format!("zebra-{at} = 1\n")).collect();
    assert_eq!(wrong(&many).len(), 100);
}

#[test]
fn sinks_are_tables_or_addresses() {
    let file = parse(
        "[[sink]]\nname = \"plant-a\"\nto = \"mqtt://broker:1883/plant-a\"\n\
         sites = [\"d4z9\", \"store-17*\"]\nprograms = [\"CAISO*\", 867]\nevents = \"site.*\"\n\n\
         [[sink]]\nto = \"none\"\n",
    );
    assert_eq!(file.problems(), []);
    let [first, second] = file.sinks() else {
        panic!("two sinks");
    };
    let listed = |list: &[Written]| list.iter().map(|it| it.text.clone()).collect::<Vec<_>>();
    assert_eq!((first.line, second.line), (1, 8));
    assert_eq!(first.name.as_ref().unwrap().text, "plant-a");
    assert_eq!(listed(&first.sites), ["d4z9", "store-17*"]);
    assert_eq!(listed(&first.programs), ["CAISO*", "867"]);
    assert_eq!(listed(&first.events), ["site.*"]);
    assert!(second.name.is_none() && second.sites.is_empty());
    let inline = parse("sink = [\"stdout\", { to = \"none\", name = \"n\" }]");
    assert_eq!((inline.problems(), inline.sinks().len()), (vec![], 2));
}

#[test]
fn what_is_wrong_with_a_sink_is_told_with_its_line_and_the_remedy() {
    assert_eq!(
        wrong(
            "[[sink]]\n\
             to = 5\n\
             sites = [\"a*b\", 7,\n\
             \"\"]\n\
             programs = []\n\
             events = true\n\
             naem = \"x\"\n\
             poll-interval = \"1s\"\n\
             zebra = 1\n\
             [[sink]]\n\
             name = \"a\\nb\"\n"
        ),
        [
            "2: sink.to: is a whole number and must be a string; write it in quotes: \"5\"",
            "3: sink.sites: `a*b` has a * before its end; a * may stand at the end only, such as `a*`",
            "3: sink.sites: is a whole number and must be a string; write it in quotes: \"7\"",
            "4: sink.sites: is empty; give a value, or leave the key out",
            "5: sink.programs: is an empty list; name what the sink gets, or leave it out: the sink gets all then",
            "6: sink.events: is a boolean and must be a string; write it in quotes: \"true\"",
            "7: unknown key `naem` in a [[sink]]: did you mean `name`?",
            "8: `poll-interval` is an option of the daemon and stands in a [[sink]]; move it above the first [[sink]]",
            "9: unknown key `zebra` in a [[sink]], which has name, to, sites, programs, events",
            "10: sink: has no `to`; write where it delivers, such as to = \"https://controller.example/events\"",
            "11: sink.name: has a control character; write a name in one line",
        ]
    );
    for (text, said) in [
        (
            "sink = []",
            "1: sink: is an empty list; to deliver nothing write sink = \"none\"",
        ),
        (
            "[sink]\nto = \"none\"",
            "1: sink: is a single table; write [[sink]] above each sink, with two brackets",
        ),
        (
            "sink = 5",
            "1: sink: is a whole number and must be the address of a sink in quotes, or a [[sink]] table",
        ),
        (
            "sinks = [\"none\"]",
            "1: unknown option `sinks`: did you mean `sink`?",
        ),
    ] {
        assert_eq!(wrong(text), [said]);
    }
}

#[test]
fn what_differs_from_the_file_before_is_named() {
    let before = parse("api-rate = 5\nretain = \"1d\"\n[[sink]]\nto = \"none\"\n");
    let same = parse("# moved\nretain = '1d'\napi-rate = \"5\"\nsink = \"none\"\n");
    assert_eq!(before.differences(&same), [""; 0]);
    let later = parse("api-rate = 6\nnode = \"n\"\nretain = \"1d\"\nsink = \"stdout\"\n");
    assert_eq!(before.differences(&later), ["api-rate", "node", "sink"]);
}

#[test]
fn the_status_is_asked_for_where_the_file_has_it() {
    let url = |listen| parse(&format!("status-listen = \"{listen}\"")).status_url();
    for (listen, expected) in [
        ("10.1.2.3:9", "http://10.1.2.3:9"),
        ("0.0.0.0:5001", "http://127.0.0.1:5001"),
        ("[::]:5001", "http://[::1]:5001"),
    ] {
        assert_eq!(url(listen).as_deref(), Some(expected));
    }
    assert_eq!(url("127.0.0.1:0"), None);
    assert_eq!(parse("").status_url(), None);
}

/// The file of `deploy/`, whose options are all comments, without their `#`.
fn example() -> String {
    let text = include_str!("../../../deploy/dispatchd.toml");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        // A comment in words begins with a space.
        Some(code) if !code.starts_with(' ') => code,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_has_every_option_and_its_default() {
    let path = Path::new("dispatchd.toml");
    let shipped = include_bytes!("../../../deploy/dispatchd.toml");
    let shipped = ConfigFile::parse(path, shipped);
    assert_eq!(shipped.problems(), []);
    assert!(shipped.settings.is_empty() && shipped.sinks.is_empty());

    let file = ConfigFile::parse(path, example().as_bytes());
    assert_eq!(file.problems(), []);
    let table = options::table();
    let longs: BTreeSet<&str> = table.get_arguments().filter_map(Arg::get_long).collect();
    for arg in table.get_arguments() {
        let long = arg.get_long().unwrap();
        let is_secret = longs.contains(&*format!("{long}-file"));
        if is_secret || matches!(long, "config" | "sink") {
            assert!(!file.settings.contains_key(long), "{long}");
            continue;
        }
        let Some(setting) = file.settings.get(long) else {
            panic!("deploy/dispatchd.toml lacks {long}");
        };
        let defaults = arg.get_default_values().iter();
        let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
        if defaults.is_empty() || long == "state" {
            continue;
        }
        assert_eq!(setting.texts, defaults, "{long}");
    }
    let has = |part: fn(&SinkTable) -> bool| file.sinks().iter().any(part);
    assert!(has(|sink| sink.name.is_some()));
    assert!(has(|sink| !sink.sites.is_empty()));
    assert!(has(|sink| !sink.programs.is_empty()));
    assert!(has(|sink| !sink.events.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_whole(&bytes);
    }

    /// A file that was right, damaged in a few places.
    #[test]
    fn a_damaged_file_is_read_without_a_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = example().into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        read_whole(&bytes);
    }

    /// Texts of what a file is made of.
    #[test]
    fn whatever_looks_like_a_file_is_read_without_a_panic(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "[[sink]]", "[sink]", "sink", "to", "name", "sites", "poll-interval", "api-rate",
                "api-key", "config", "status-host", "state", "log-format", "listen", " = ", "=",
                "\"", "'", "\"\"\"", "[", "]", "{", "}", ",", ".", "\n", "#", "5", "-1", "1e9",
                "true", "2022-04-15", "\"30s\"", "\"a*b\"", "\"exec:x\"", "\"\\u0000\"", "--", "é",
            ]),
            0..40,
        )
    ) {
        read_whole(parts.concat().as_bytes());
    }
}

/// Reads the file as a start would, and gives its values to the command line.
fn read_whole(bytes: &[u8]) {
    let file = ConfigFile::parse(Path::new("/etc/d/d.toml"), bytes);
    for problem in file.problems() {
        let said = problem.to_string();
        assert!(said.starts_with("/etc/d/d.toml:"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let command = file.with_defaults(options::table());
    let read = command.try_get_matches_from(["run"]);
    assert!(read.is_ok(), "{:?}", read.err());
}
