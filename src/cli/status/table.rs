//! Prints the report for people: the most important first, in 80 columns.

use unicode_width::UnicodeWidthStr;

use super::report::Report;
use super::tables::{Table, curtailed, dispatches, due_commands, overridden, untold};
use super::words::{cut, fill, wrap};
use crate::cli::output::plain;

/// No line is longer.
pub(super) const WIDTH: usize = 80;

/// The column of labels.
const LABEL: usize = 10;

/// Rows shown of one table where no terminal says how many fit. `--json` has all.
const ROWS: usize = 50;

/// Rows that a table gets before another one gets the rest.
const FIRST_ROWS: usize = 3;

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub colours: bool,
    /// The terminal's height in lines, if the report is to fit it.
    pub height: Option<usize>,
    /// Whether long cells are cut, so that no line is longer than a terminal is wide.
    pub cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Colour {
    None,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Colour {
    /// That of a verdict of this level.
    pub fn of_level(level: &str) -> Self {
        match level {
            "ok" => Self::Green,
            "warning" => Self::Yellow,
            _ => Self::Red,
        }
    }
}

impl Style {
    fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            _ if !self.colours => return text.to_owned(),
            Colour::None => return text.to_owned(),
            Colour::Dim => "2",
            Colour::Green => "1;32",
            Colour::Yellow => "1;33",
            Colour::Red => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The whole report: the verdicts, how things stand, and the tables.
pub(super) fn draw(report: &Report, style: Style) -> String {
    let mut page = Page::new(style);
    page.summary(&report.status);
    let tables = [
        due_commands(&report.status),
        untold(&report.status),
        overridden(&report.status),
        dispatches(report),
        curtailed(report),
    ];
    let rows = page.rows_that_fit(&tables);
    for (table, rows) in tables.into_iter().zip(rows) {
        if !table.rows.is_empty() || table.always {
            page.line("");
            page.table(table, rows);
        }
    }
    page.text
}

/// What is drawn so far.
pub(super) struct Page {
    text: String,
    pub(super) style: Style,
}

impl Page {
    pub fn new(style: Style) -> Self {
        Self {
            text: String::new(),
            style,
        }
    }

    pub fn text(self) -> String {
        self.text
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// A label, and what belongs to it, over as many lines as it takes.
    pub fn entry(&mut self, label: &str, colour: Colour, text: &str) {
        let mut label = self.style.paint(colour, &format!("{label:LABEL$}"));
        for line in wrap(&plain(text), WIDTH - LABEL) {
            self.line(&format!("{label}{line}"));
            label = " ".repeat(LABEL);
        }
    }

    /// How many rows of each table fit the terminal. Untold and curtailed sites go
    /// before dispatches.
    fn rows_that_fit(&self, tables: &[Table; 5]) -> [usize; 5] {
        /// The tables, the most important first.
        const ORDER: [usize; 5] = [0, 1, 4, 2, 3];
        let Some(height) = self.style.height else {
            return [ROWS; 5];
        };
        // A table has an empty line, a header and perhaps "and 7 more". One line is
        // left for the prompt.
        let shown = tables
            .iter()
            .filter(|table| table.always || !table.rows.is_empty());
        let used = self.text.lines().count() + 3 * shown.count() + 1;
        let mut left = height.saturating_sub(used);
        let mut rows = [0; 5];
        for most in [FIRST_ROWS, usize::MAX] {
            for at in ORDER {
                let (Some(rows), Some(table)) = (rows.get_mut(at), tables.get(at)) else {
                    continue;
                };
                let more = table.rows.len().min(most).saturating_sub(*rows).min(left);
                *rows += more;
                left -= more;
            }
        }
        rows
    }

    /// A table whose columns are as wide as they must, and no wider than given.
    /// The first cell of a row is in its colour. comfy-table would break a long
    /// cell between words before it cuts it.
    fn table(&mut self, table: Table, most: usize) {
        if table.rows.is_empty() {
            self.line(table.none);
            return;
        }
        let columns = table.columns;
        let hidden = table.of.max(table.rows.len()).saturating_sub(most);
        let rows: Vec<(Colour, Vec<String>)> = table
            .rows
            .into_iter()
            .take(most)
            .map(|(colour, cells)| {
                let cells = cells.iter().zip(columns);
                let cells = cells.map(|(cell, (_, most))| match self.style.cut {
                    true => cut(&plain(cell), *most),
                    false => plain(cell),
                });
                (colour, cells.collect())
            })
            .collect();
        let widths: Vec<usize> = columns
            .iter()
            .enumerate()
            .map(|(column, (name, _))| {
                let cells = rows.iter().filter_map(|(_, cells)| cells.get(column));
                let widest = cells.map(|cell| cell.width()).max();
                widest.unwrap_or_default().max(name.width())
            })
            .collect();
        let join = |cells: Vec<String>| -> Vec<String> {
            let padded = cells.into_iter().zip(&widths);
            padded.map(|(cell, width)| fill(&cell, *width)).collect()
        };
        let names = columns.iter().map(|(name, _)| (*name).to_owned());
        let header = join(names.collect()).join("  ");
        let header = self.style.paint(Colour::Dim, header.trim_end());
        self.line(&header);
        for (colour, cells) in rows {
            let mut cells = join(cells);
            if let Some(first) = cells.first_mut() {
                *first = self.style.paint(colour, first);
            }
            self.line(cells.join("  ").trim_end());
        }
        if hidden > 0 {
            self.line(&format!("and {hidden} more; --json has them"));
        }
    }
}
