//! What was measured, round by round.

use std::collections::BTreeMap;

/// Who was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The daemon.
    Daemon,
    /// The limit.
    Limit,
    /// The limit with as many synced writes as the daemon makes.
    Synced,
    /// The peer in Python; of the two pollers the one with `fromisoformat`.
    Python,
    /// The poller with dateutil.
    Dateutil,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A rate, by the second.
    PerSecond,
    /// A time.
    Milliseconds,
    /// A size.
    Mebibytes,
    /// A part of one core's time.
    Percent,
    /// A factor.
    Times,
}

impl Unit {
    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        let digits = match value.abs() {
            100.0.. => 0,
            10.0.. => 1,
            1.0.. => 2,
            _ => 3,
        };
        let unit = match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => " ms",
            Self::Mebibytes => " MiB",
            Self::Percent => " %",
            Self::Times => "",
        };
        format!("{value:.digits$}{unit}")
    }
}

/// One value a round, of each who was measured.
type Measured = BTreeMap<Who, Vec<f64>>;

/// All that was measured, in the order in which it first was.
#[derive(Default)]
pub struct Figures {
    lines: Vec<(String, Unit, Measured)>,
}

impl Figures {
    /// Adds the value of one round.
    pub fn add(&mut self, what: &str, who: Who, unit: Unit, value: f64) {
        let known = self.lines.iter().position(|(known, ..)| known == what);
        let at = known.unwrap_or_else(|| {
            self.lines.push((what.to_owned(), unit, Measured::new()));
            self.lines.len() - 1
        });
        self.lines[at].2.entry(who).or_default().push(value);
    }

    /// The values of all rounds.
    pub fn of(&self, what: &str, who: Who) -> Option<&[f64]> {
        let (.., measured) = self.lines.iter().find(|(known, ..)| known == what)?;
        measured.get(&who).map(Vec::as_slice)
    }

    /// What a value of `what` counts.
    pub fn unit(&self, what: &str) -> Option<Unit> {
        let (_, unit, _) = self.lines.iter().find(|(known, ..)| known == what)?;
        Some(*unit)
    }

    /// A table of all medians.
    pub fn table(&self) -> String {
        let mut out = String::from(
            "| median | daemon | limit | limit, synced | Python | with dateutil |\n|---|--:|--:|--:|--:|--:|\n",
        );
        for (what, unit, measured) in &self.lines {
            let all = [
                Who::Daemon,
                Who::Limit,
                Who::Synced,
                Who::Python,
                Who::Dateutil,
            ];
            let cells = all.map(|who| {
                let values = measured.get(&who);
                values.map_or(String::new(), |values| unit.show(median(values)))
            });
            out += &format!("| {what} | {} |\n", cells.join(" | "));
        }
        out
    }
}

/// The value in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}
