//! The command line as a whole.

use super::*;

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

/// The help of a command and of those within it.
fn helps(command: &mut Command) -> Vec<String> {
    let mut all = vec![command.render_long_help().to_string()];
    all.extend(command.get_subcommands_mut().flat_map(helps));
    all
}

#[test]
fn every_option_is_explained() {
    fn look(command: &Command) {
        for argument in command.get_arguments() {
            let explained = argument.get_help().is_some();
            assert!(explained, "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(look);
    }
    let mut command = command();
    command.build();
    look(&command);
    for help in helps(&mut command) {
        // The doc comment of a group of options must not become a help text.
        assert!(!help.contains("The options"), "{help}");
    }
}

#[test]
fn what_may_be_a_secret_is_not_shown_by_help() {
    fn look(command: &Command) {
        let secrets = command.get_arguments().filter(|argument| {
            let id = argument.get_id().as_str();
            matches!(id, "api_key" | "public_url")
                || id.ends_with("secret")
                || id.ends_with("token")
        });
        for argument in secrets.filter(|argument| argument.get_env().is_some()) {
            assert!(
                argument.is_hide_env_values_set(),
                "{} {}",
                command.get_name(),
                argument.get_id()
            );
        }
        command.get_subcommands().for_each(look);
    }
    let mut command = command();
    command.build();
    look(&command);
}

#[test]
fn whatever_takes_a_value_is_refused_when_that_is_empty() {
    fn look(command: &Command, path: &[&str], looked: &mut usize) {
        for argument in command.get_arguments() {
            if !argument.get_action().takes_values() {
                continue;
            }
            let name = argument.get_long().map(|long| format!("--{long}"));
            for value in ["", " \t"] {
                let given = match &name {
                    Some(name) => format!("{name}={value}"),
                    None => value.to_owned(),
                };
                let args = ["dispatchd"].iter().chain(path).copied();
                let args: Vec<_> = args.chain([&*given]).map(Into::into).collect();
                let Some(said) = empty::refusal(super::command(), &args) else {
                    // Something else is missing, which is told first.
                    let parsed = super::command().try_get_matches_from(&args);
                    assert!(path == ["scenario"] && parsed.is_err(), "{args:?}");
                    continue;
                };
                assert!(said.contains("is empty; give a value"), "{args:?}: {said}");
                let name = name.clone().unwrap_or_default();
                assert!(said.starts_with(&name) && !said.contains('\n'), "{said}");
                *looked += 1;
            }
        }
        for subcommand in command.get_subcommands() {
            let path = [path, &[subcommand.get_name()]].concat();
            if subcommand.get_name() != "help" {
                look(subcommand, &path, looked);
            }
        }
    }
    let mut command = command();
    command.build();
    let mut looked = 0;
    look(&command, &[], &mut looked);
    assert!(looked > 100, "{looked}");
}

#[test]
fn options_of_the_api_may_stand_before_and_behind_what_to_do_with_webhooks() {
    for args in [
        ["webhook", "--api-key", "k", "list"],
        ["webhook", "list", "--api-key", "k"],
    ] {
        let args = std::iter::once("dispatchd").chain(args);
        let matches = command().try_get_matches_from(args).unwrap();
        let own = matches.subcommand().unwrap().1;
        let key: Option<&secrecy::SecretString> = own.get_one("api_key");
        assert!(key.is_some());
    }
}

#[test]
fn a_scenario_is_named_or_comes_from_a_file() {
    let parse = |args: &str| {
        let args = ["dispatchd", "scenario"].into_iter().chain(args.split(' '));
        command().try_get_matches_from(args)
    };
    for right in [
        "basic",
        "basic --start-in 5s --length 10s --site a:b:c:1 --site d:e:f:2",
        "--file x.json",
        "basic --file x.json",
        "cancelled --print",
    ] {
        assert!(parse(right).is_ok(), "{right}");
    }
    for wrong in [
        "sixth",
        "--print",
        "basic --start-in 5",
        "basic --site a",
        "--file x.json --length 5s",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_version_tells_what_the_program_was_built_from_below_its_first_line() {
    let command = command();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(command.render_version(), format!("dispatchd {version}\n"));
    let long = command.render_long_version();
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], format!("dispatchd {version}"));
    let facts = lines[1..].iter().map(|line| line.split_once(':').unwrap());
    let facts: Vec<(&str, &str)> = facts.map(|(name, fact)| (name, fact.trim())).collect();
    let names: Vec<&str> = facts.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["commit", "profile", "target", "rustc"]);
    assert!(facts.iter().all(|(_, fact)| !fact.is_empty()), "{long}");
    assert_eq!(
        facts[0].1.starts_with("not recorded"),
        cfg!(debug_assertions)
    );
}
