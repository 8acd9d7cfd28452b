//! Reads the sinks in the file: `[[sink]]` tables, or addresses in a list.

use std::ops::Range;

use clap::{Arg, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigFile;
use super::options::{Wrong, guess, kind, must_be_string, shown, within};
use super::syntax::{Text, in_order};

/// The longest name of a sink, in characters.
const NAME_MAX: usize = 100;

/// The keys of a `[[sink]]`.
const KEYS: [&str; 5] = ["name", "to", "sites", "programs", "events"];

/// A text and the line that it stands in.
#[derive(Debug, Clone)]
pub(in crate::config) struct Written {
    pub text: String,
    pub line: usize,
}

/// One sink as the file has it.
#[derive(Debug, Default)]
pub(in crate::config) struct SinkTable {
    /// Where it begins.
    pub line: usize,
    pub name: Option<Written>,
    /// Where it delivers. The program of `exec:` is an absolute path.
    pub to: Option<Written>,
    /// Patterns of sites, none for all sites.
    pub sites: Vec<Written>,
    /// Patterns of programs, none for all programs.
    pub programs: Vec<Written>,
    /// Patterns of event types, none for all events.
    pub events: Vec<Written>,
}

impl SinkTable {
    /// Whether both say the same, wherever they stand.
    pub fn is_same(&self, other: &Self) -> bool {
        let text = |written: &Option<Written>| written.as_ref().map(|it| it.text.clone());
        let texts = |all: &[Written]| all.iter().map(|it| it.text.clone()).collect::<Vec<_>>();
        let whole = |sink: &Self| {
            let lists = [&sink.sites, &sink.programs, &sink.events];
            (
                text(&sink.name),
                text(&sink.to),
                lists.map(|list| texts(list)),
            )
        };
        whole(self) == whole(other)
    }
}

/// Takes the sinks over into `file`. `line` is where their key stands.
pub(super) fn read(
    file: &mut ConfigFile,
    text: &Text<'_>,
    options: &Command,
    line: usize,
    value: &Spanned<DeValue<'_>>,
) {
    let mut reader = Reader {
        file,
        text,
        options,
    };
    match value.get_ref() {
        DeValue::Array(values) if values.is_empty() => reader.problem(
            line,
            "sink",
            "is an empty list; to deliver nothing write sink = \"none\"".to_owned(),
        ),
        DeValue::Array(values) => {
            for value in values {
                if reader.file.has_enough_problems() {
                    break;
                }
                reader.sink(value, line);
            }
        }
        DeValue::Table(_) => reader.problem(
            line,
            "sink",
            "is a single table; write [[sink]] above each sink, with two brackets".to_owned(),
        ),
        _ => reader.sink(value, line),
    }
}

struct Reader<'a, 't> {
    file: &'a mut ConfigFile,
    text: &'a Text<'t>,
    options: &'a Command,
}

impl Reader<'_, '_> {
    fn problem(&mut self, line: usize, key: &str, text: String) {
        self.file.add_problem(line, Some("sink"), key, text);
    }

    fn wrong(&mut self, key: &str, wrong: Wrong) {
        let line = self.text.line(wrong.at);
        self.problem(line, key, wrong.text);
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text.line(span.start)
    }

    /// One sink: a table, or its address alone. `line` is where the key stands.
    fn sink(&mut self, value: &Spanned<DeValue<'_>>, line: usize) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(table, self.line(&value.span()).max(line)),
            DeValue::String(_) if self.text.is_garbled(&value.span()) => {}
            DeValue::String(_) => {
                let to = self.string("sink", value);
                self.push(SinkTable {
                    line: self.line(&value.span()),
                    to,
                    ..SinkTable::default()
                });
            }
            other => {
                let problem = format!(
                    "is {} and must be the address of a sink in quotes, or a [[sink]] table",
                    kind(other)
                );
                self.problem(self.line(&value.span()), "sink", problem);
            }
        }
    }

    fn table(&mut self, table: &DeTable<'_>, line: usize) {
        let mut sink = SinkTable {
            line,
            ..SinkTable::default()
        };
        let mut has_to = false;
        for (key, value) in in_order(table) {
            let name: &str = key.get_ref();
            has_to |= name == "to";
            if self.text.is_garbled(&(key.span().start..value.span().end)) {
                continue;
            }
            match name {
                "name" => sink.name = self.name(value),
                "to" => sink.to = self.string("sink.to", value),
                "sites" => sink.sites = self.patterns("sink.sites", value),
                "programs" => sink.programs = self.patterns("sink.programs", value),
                "events" => sink.events = self.patterns("sink.events", value),
                _ => {
                    let problem = self.unknown(name);
                    self.problem(self.line(&key.span()), "", problem);
                }
            }
        }
        if !has_to && !self.file.broken {
            let problem = "has no `to`; write where it delivers, such as to = \"https://controller.example/events\"";
            self.problem(line, "sink", problem.to_owned());
        }
        self.push(sink);
    }

    /// What to do about a key that no `[[sink]]` has.
    fn unknown(&self, name: &str) -> String {
        let mut longs = self.options.get_arguments().filter_map(Arg::get_long);
        if longs.any(|long| long == name) {
            return format!(
                "`{name}` is an option of the daemon and stands in a [[sink]]; move it above the first [[sink]]"
            );
        }
        match guess(name, KEYS) {
            Some(guess) => format!(
                "unknown key `{}` in a [[sink]]: did you mean `{guess}`?",
                shown(name)
            ),
            None => format!(
                "unknown key `{}` in a [[sink]], which has {}",
                shown(name),
                KEYS.join(", ")
            ),
        }
    }

    fn push(&mut self, mut sink: SinkTable) {
        if let Some(to) = &mut sink.to
            && let Some(program) = to.text.trim().strip_prefix("exec:")
            && !program.is_empty()
        {
            to.text = format!("exec:{}", within(&self.file.folder, program));
        }
        self.file.sinks.push(sink);
    }

    fn name(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Written> {
        let name = self.string("sink.name", value)?;
        let problem = if name.text.chars().any(char::is_control) {
            "has a control character; write a name in one line"
        } else if name.text.chars().count() > NAME_MAX {
            "is longer than 100 characters; give a shorter name"
        } else {
            return Some(name);
        };
        self.problem(name.line, "sink.name", problem.to_owned());
        None
    }

    fn string(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Written> {
        match text(value, self.text) {
            Ok(text) => Some(Written {
                text,
                line: self.line(&value.span()),
            }),
            Err(wrong) => {
                self.wrong(key, wrong);
                None
            }
        }
    }

    /// The patterns of a list; one alone needs no list.
    fn patterns(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Vec<Written> {
        let values = match value.get_ref() {
            DeValue::Array(values) if values.is_empty() => {
                let problem = "is an empty list; name what the sink gets, or leave it out: the sink gets all then";
                self.problem(self.line(&value.span()), key, problem.to_owned());
                return Vec::new();
            }
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let mut patterns = Vec::new();
        for value in values {
            let line = self.line(&value.span());
            let pattern = match value.get_ref() {
                // The ids of programs are numbers.
                DeValue::Integer(id) if key == "sink.programs" && id.radix() == 10 => {
                    Ok(id.as_str().to_owned())
                }
                _ => text(value, self.text),
            };
            match pattern.and_then(|text| pattern_fits(value, text)) {
                Ok(text) => patterns.push(Written { text, line }),
                Err(wrong) => self.wrong(key, wrong),
            }
        }
        patterns
    }
}

fn text(value: &Spanned<DeValue<'_>>, text: &Text<'_>) -> Result<String, Wrong> {
    let at = value.span().start;
    match value.get_ref() {
        DeValue::String(string) if string.trim().is_empty() => Err(Wrong {
            at,
            text: "is empty; give a value, or leave the key out".to_owned(),
        }),
        DeValue::String(string) => Ok(string.to_string()),
        other => Err(Wrong {
            at,
            text: must_be_string(other, text.written(value.span())),
        }),
    }
}

/// A pattern is a text, or how one begins and a `*`.
fn pattern_fits(value: &Spanned<DeValue<'_>>, pattern: String) -> Result<String, Wrong> {
    let begin = pattern.strip_suffix('*').unwrap_or(&pattern);
    match begin.split_once('*') {
        None => Ok(pattern),
        Some((begin, _)) => Err(Wrong {
            at: value.span().start,
            text: format!(
                "`{}` has a * before its end; a * may stand at the end only, such as `{}*`",
                shown(&pattern),
                shown(begin)
            ),
        }),
    }
}
