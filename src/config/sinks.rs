//! The sinks: which of them are used, and the checks of each.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::checks::Listed;
use super::file::{ConfigFile, SinkTable, Written};
use super::{Origin, Place, Problem, Problems};
use crate::delivery::sinks::{SinkSecrets, SinkSpec};
use crate::model::{Route, RouteError};

/// Sinks of the file that are not used, since others were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacedSinks {
    /// How many there are.
    count: usize,
    /// What gave the sinks that are used: an option or a variable.
    by: String,
    /// Where the first of them stands.
    place: Place,
}

impl fmt::Display for ReplacedSinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.place.path.display();
        match self.count {
            1 => write!(f, "{} replaces the sink of {file}", self.by),
            count => write!(f, "{} replaces the {count} sinks of {file}", self.by),
        }
    }
}

/// The sinks that are used, and the file's if it has some that are not.
pub(super) struct Chosen {
    pub used: Vec<SinkSpec>,
    pub replaced: Option<ReplacedSinks>,
    /// Whether none was given, so that the default is used.
    pub is_default: bool,
}

/// Chooses between the sinks that `given` lists and those of the file. Those of the
/// command line or of the variable replace the file's as a whole: an operator who names
/// sinks there wants no others.
pub(super) fn choose(
    given: &Listed,
    file: Option<&Arc<ConfigFile>>,
    secrets: &SinkSecrets,
    problems: &mut Problems,
) -> Option<Chosen> {
    let tables = file.map_or(&[][..], |file| file.sinks());
    if given.values.is_empty() {
        let used = match (file, tables) {
            (Some(file), [_, ..]) => of_file(file, tables, secrets, problems),
            _ => of_texts(&["stdout".to_owned()], &Origin::Default, secrets, problems),
        };
        return used.map(|used| Chosen {
            used,
            replaced: None,
            is_default: tables.is_empty(),
        });
    }
    let by = match &given.origin {
        Origin::Variable(variable) => format!("the variable {variable}"),
        _ => "--sink".to_owned(),
    };
    let replaced = file.zip(tables.first()).map(|(file, first)| ReplacedSinks {
        count: tables.len(),
        by,
        place: file.place(first.line),
    });
    let used = of_texts(&given.values, &given.origin, secrets, problems)?;
    Some(Chosen {
        used,
        replaced,
        is_default: false,
    })
}

fn of_texts(
    texts: &[String],
    origin: &Origin,
    secrets: &SinkSecrets,
    problems: &mut Problems,
) -> Option<Vec<SinkSpec>> {
    match SinkSpec::parse_all(texts.iter().map(String::as_str), secrets) {
        Ok(specs) => Some(specs),
        Err(errors) => {
            problems.0.extend(errors.iter().map(|error| Problem {
                origin: origin.clone(),
                ..Problem::new("--sink", error.to_string())
            }));
            None
        }
    }
}

fn of_file(
    file: &ConfigFile,
    tables: &[SinkTable],
    secrets: &SinkSecrets,
    problems: &mut Problems,
) -> Option<Vec<SinkSpec>> {
    let mut sinks: Vec<SinkSpec> = Vec::new();
    // The line of each name.
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut all = true;
    for table in tables {
        let mut add = |option: &'static str, line, problem: String| {
            problems.0.push(Problem {
                origin: Origin::File(file.place(line)),
                ..Problem::new(option, problem)
            });
        };
        // Without an address the file is refused already.
        let Some(to) = &table.to else {
            all = false;
            continue;
        };
        let spec = SinkSpec::parse(&to.text, secrets);
        if let Err(error) = &spec {
            add("sink", to.line, error.to_string());
        }
        let route = route(table);
        for error in route.as_ref().err().into_iter().flatten() {
            add("sink", line_of(error.list(), table), error.to_string());
        }
        all &= spec.is_ok() && route.is_ok();
        let Ok(sink) = spec else { continue };
        let sink = match &table.name {
            Some(name) => sink.named(name.text.clone()),
            None => sink,
        }
        .routed(route.unwrap_or_default());
        match taken.get(sink.name()) {
            Some(line) => {
                let problem = format!(
                    "the sink of line {line} is called `{}` too; give each sink a `name` of its own",
                    sink.name()
                );
                add("sink", table.line, problem);
                all = false;
            }
            None => {
                taken.insert(sink.name().to_owned(), table.line);
            }
        }
        sinks.push(sink);
    }
    all.then_some(sinks)
}

fn route(table: &SinkTable) -> Result<Route, Vec<RouteError>> {
    let texts =
        |written: &[Written]| -> Vec<String> { written.iter().map(|it| it.text.clone()).collect() };
    Route::parse(
        &texts(&table.sites),
        &texts(&table.programs),
        &texts(&table.events),
    )
}

/// The line on which the list of patterns with this name begins.
fn line_of(list: &str, table: &SinkTable) -> usize {
    let patterns = match list {
        "sites" => &table.sites,
        "programs" => &table.programs,
        _ => &table.events,
    };
    patterns.first().map_or(table.line, |first| first.line)
}
