//! The sinks: which of them are used, and the checks of each ([`SinkConfig`]).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::checks::Listed;
use super::file::{ConfigFile, SinkTable, Written};
use super::{Origin, Place, Problem, Problems};
use crate::delivery::sinks::{SinkSecrets, SinkSpec};

/// One sink, checked.
#[derive(Debug)]
pub struct SinkConfig {
    /// What it is called everywhere: its address without secrets, unless the file names
    /// it.
    pub name: String,
    /// Where it delivers.
    pub to: SinkSpec,
    /// Patterns of the sites that it gets, none for all.
    pub sites: Vec<String>,
    /// Patterns of the programs that it gets, none for all.
    pub programs: Vec<String>,
    /// Patterns of the event types that it gets, none for all.
    pub events: Vec<String>,
}

impl SinkConfig {
    /// A sink that gets everything.
    fn whole(to: SinkSpec) -> Self {
        Self {
            name: to.name().to_owned(),
            to,
            sites: Vec::new(),
            programs: Vec::new(),
            events: Vec::new(),
        }
    }
}

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
    pub used: Vec<SinkConfig>,
    pub replaced: Option<ReplacedSinks>,
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
    Some(Chosen { used, replaced })
}

fn of_texts(
    texts: &[String],
    origin: &Origin,
    secrets: &SinkSecrets,
    problems: &mut Problems,
) -> Option<Vec<SinkConfig>> {
    match SinkSpec::parse_all(texts.iter().map(String::as_str), secrets) {
        Ok(specs) => Some(specs.into_iter().map(SinkConfig::whole).collect()),
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
) -> Option<Vec<SinkConfig>> {
    let mut sinks: Vec<SinkConfig> = Vec::new();
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
        let sink = match SinkSpec::parse(&to.text, secrets) {
            Ok(spec) => configured(table, spec),
            Err(error) => {
                add("sink", to.line, error.to_string());
                all = false;
                continue;
            }
        };
        if let Some(problem) = not_supported_yet(&sink) {
            add("sink", table.line, problem.to_owned());
            all = false;
        }
        match taken.get(&sink.name) {
            Some(line) => {
                let problem = format!(
                    "the sink of line {line} is called `{}` too; give each sink a `name` of its own",
                    sink.name
                );
                add("sink", table.line, problem);
                all = false;
            }
            None => {
                taken.insert(sink.name.clone(), table.line);
            }
        }
        sinks.push(sink);
    }
    all.then_some(sinks)
}

fn configured(table: &SinkTable, to: SinkSpec) -> SinkConfig {
    let texts = |written: &[Written]| written.iter().map(|it| it.text.clone()).collect();
    SinkConfig {
        name: match &table.name {
            Some(name) => name.text.clone(),
            None => to.name().to_owned(),
        },
        to,
        sites: texts(&table.sites),
        programs: texts(&table.programs),
        events: texts(&table.events),
    }
}

/// Says what the daemon cannot do yet with a sink of the file.
fn not_supported_yet(sink: &SinkConfig) -> Option<&'static str> {
    let lists = [&sink.sites, &sink.programs, &sink.events];
    if lists.iter().any(|list| !list.is_empty()) {
        return Some("sites, programs and events are not supported yet; leave them out");
    }
    (sink.name != sink.to.name()).then_some("a name is not supported yet; leave it out")
}
