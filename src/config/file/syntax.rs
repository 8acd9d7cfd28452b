//! Reads the TOML, and goes on behind what is no TOML: [`read`].

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::ConfigFile;

/// The text of a file, which knows its lines.
pub(super) struct Text<'t> {
    text: &'t str,
    /// Where each line begins.
    starts: Vec<usize>,
    /// Lines that are no TOML. What the parser makes of them means nothing.
    garbled: BTreeSet<usize>,
}

impl<'t> Text<'t> {
    fn new(text: &'t str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(ends).collect(),
            garbled: BTreeSet::new(),
        }
    }

    /// The line of what begins at this byte, the first being 1.
    pub fn line(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).max(1)
    }

    /// Whether a part of the file holds what is no TOML.
    pub fn is_garbled(&self, span: &Range<usize>) -> bool {
        let last = self.line(span.end.saturating_sub(1).max(span.start));
        let lines = self.line(span.start)..=last;
        self.garbled.range(lines).next().is_some()
    }

    /// What is written there.
    pub fn written(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or_default()
    }
}

/// The entries of a table, in the order of the file.
pub(super) fn in_order<'v, 'i>(
    table: &'v DeTable<'i>,
) -> Vec<(&'v Spanned<DeString<'i>>, &'v Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Takes what `bytes` set over into `file`, and notes all that is wrong.
pub(super) fn read(file: &mut ConfigFile, bytes: &[u8]) {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let (before, _) = bytes.split_at(error.valid_up_to());
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            file.broken = true;
            let problem = "is not text in UTF-8; save the file as UTF-8".to_owned();
            file.add_problem(line, None, "", problem);
            return;
        }
    };
    let mut text = Text::new(text);
    let (table, errors) = DeTable::parse_recoverable(text.text);
    for error in errors {
        file.broken = true;
        let at = error.span().map_or(0, |span| span.start);
        let line = text.line(at);
        // What follows a fault in its line is a consequence of it as a rule.
        if text.garbled.insert(line) {
            // Without the line itself, as the library shows it: it may hold a secret.
            let problem = format!("is not TOML: {}", error.message());
            file.add_problem(line, None, "", problem);
        }
    }
    super::options::read(file, &text, table.get_ref());
    file.close();
}
