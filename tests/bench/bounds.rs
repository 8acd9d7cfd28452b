//! What must hold, in one table.

use crate::Fault;
use crate::figures::{Figures, Unit, Who, median};
use Direction::{AtLeast, AtMost};
use Judged::{InFull, No, Yes};
use Who::{Daemon, Limit, Python, Synced};

#[derive(Clone, Copy)]
enum Direction {
    AtLeast(f64),
    AtMost(f64),
}

/// Whether the end of the bench depends on it. On times it never does: they tell
/// of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Judged {
    Yes,
    /// The short form is too short for it: too few rounds, or folds of the log.
    InFull,
    No,
}

struct Bound {
    /// The name of what was measured.
    of: (&'static str, Who),
    /// What it is divided by, round by round.
    by: Option<(&'static str, Who)>,
    must: Direction,
    judged: Judged,
}

const fn bound(
    of: (&'static str, Who),
    by: Option<(&'static str, Who)>,
    must: Direction,
    judged: Judged,
) -> Bound {
    Bound {
        of,
        by,
        must,
        judged,
    }
}

const RATE_16: &str = "new webhooks, 16 clients: rate";
const RATE_64: &str = "new webhooks, 64 clients: rate";
const P99_16: &str = "new webhooks, 16 clients: p99";
const CORRECTED_16: &str = "new webhooks, 16 clients: p99, corrected";
/// Webhooks that come on time: median, 99th and 99.9th percentile.
const AT_500: [&str; 3] = [
    "new webhooks at 500/s: median",
    "new webhooks at 500/s: p99",
    "new webhooks at 500/s: p99.9",
];
const AT_1500: [&str; 3] = [
    "new webhooks at 1,500/s: median",
    "new webhooks at 1,500/s: p99",
    "new webhooks at 1,500/s: p99.9",
];
const CHAIN: &str = "webhook of an active dispatch to its commands: median";
const AGAIN_64: &str = "duplicate webhooks, 64 clients: rate";
const UNCHANGED: &str = "10,000 x 2 sites, unchanged: time";
const CHANGED: &str = "10,000 x 2 sites, 1 % changed: time";
const FIRST: &str = "10,000 x 2 sites, first sight: time";
const GROWTH: [&str; 3] = [
    "unchanged: a dispatch's cost at 100,000, as multiple of that at 1,000",
    "1 % changed: a dispatch's cost at 100,000, as multiple of that at 1,000",
    "first sight: a dispatch's cost at 100,000, as multiple of that at 1,000",
];
const DATABASE: &str = "new webhooks on PostgreSQL, 64 clients: rate, as part of that on a file";
const PAIRS: &str = "100 x 10,000 sites, unchanged: time";

/// All bounds. A figure that is divided by nothing is bounded itself.
#[rustfmt::skip]
const BOUNDS: &[Bound] = &[
    bound((RATE_16, Daemon), Some((RATE_16, Python)), AtLeast(10.0), Yes),
    bound((RATE_64, Daemon), Some((RATE_64, Limit)), AtLeast(0.5), Yes),
    bound((P99_16, Daemon), Some((P99_16, Limit)), AtMost(3.0), Yes),
    bound((CORRECTED_16, Daemon), None, AtMost(10.0), No),
    bound((AT_500[0], Daemon), Some((AT_500[0], Limit)), AtMost(1.6), InFull),
    bound((AT_500[1], Daemon), Some((AT_500[1], Limit)), AtMost(2.0), InFull),
    bound((AT_500[2], Daemon), Some((AT_500[2], Limit)), AtMost(4.0), InFull),
    bound((AT_1500[0], Daemon), Some((AT_1500[0], Limit)), AtMost(1.6), InFull),
    bound((AT_1500[1], Daemon), Some((AT_1500[1], Limit)), AtMost(2.0), InFull),
    bound((AT_1500[2], Daemon), Some((AT_1500[2], Limit)), AtMost(4.0), InFull),
    bound((AT_500[0], Daemon), Some((AT_500[0], Synced)), AtMost(1.6), No),
    bound((AT_1500[0], Daemon), Some((AT_1500[0], Synced)), AtMost(1.6), No),
    bound((CHAIN, Daemon), Some((CHAIN, Limit)), AtMost(2.0), InFull),
    bound((CHAIN, Daemon), Some((CHAIN, Synced)), AtMost(2.0), No),
    bound(("webhooks: longest WAL of all", Daemon), None, AtMost(64.0), Yes),
    bound((AGAIN_64, Daemon), Some((AGAIN_64, Limit)), AtLeast(0.7), Yes),
    bound((DATABASE, Daemon), None, AtLeast(0.5), InFull),
    bound((UNCHANGED, Daemon), Some((UNCHANGED, Limit)), AtMost(0.35), Yes),
    bound((UNCHANGED, Daemon), Some((UNCHANGED, Python)), AtMost(0.125), Yes),
    bound((CHANGED, Daemon), Some((CHANGED, Limit)), AtMost(0.8), Yes),
    bound((FIRST, Daemon), Some((FIRST, Limit)), AtMost(8.0), Yes),
    bound((GROWTH[0], Daemon), Some((GROWTH[0], Limit)), AtMost(1.2), InFull),
    bound((GROWTH[1], Daemon), Some((GROWTH[1], Limit)), AtMost(1.2), InFull),
    bound((GROWTH[2], Daemon), Some((GROWTH[2], Limit)), AtMost(1.2), InFull),
    bound(("a million pairs: memory, as multiple of the JSON", Daemon), None, AtMost(1.5), Yes),
    bound((PAIRS, Daemon), Some((PAIRS, Limit)), AtMost(0.35), Yes),
    bound(("100 x 1,000 sites start: last commit", Daemon), None, AtMost(2000.0), No),
    bound(("100 x 1,000 sites start: last delivery", Daemon), None, AtMost(5000.0), No),
    bound(("100,000 x 1 site start: last commit", Daemon), None, AtMost(2000.0), No),
    bound(("100,000 x 1 site start: last delivery", Daemon), None, AtMost(5000.0), No),
    bound(("webhooks beside GET /schedule: p99, as multiple of that without", Daemon), None, AtMost(1.5), InFull),
    bound(("idle: processor", Daemon), None, AtMost(0.2), No),
    bound(("idle: memory", Daemon), None, AtMost(20.0), Yes),
    bound(("ready with 10,000 stored dispatches", Daemon), None, AtMost(150.0), No),
];

/// A table of what must hold, and whether it does.
pub struct Verdict {
    /// The table, in Markdown.
    pub table: String,
    /// Whether every bound that is judged holds.
    pub held: bool,
}

/// Compares. In the `short` form a bound is held within a half as much again.
/// What was not measured is left out, unless `all` must have been.
pub fn judge(figures: &Figures, short: bool, all: bool) -> Result<Verdict, Fault> {
    let mut verdict = Verdict {
        table: String::from(
            "| what | daemon | against | ratio (of all rounds) | bound | |\n|---|--:|--:|--:|--:|---|\n",
        ),
        held: true,
    };
    for bound in BOUNDS {
        let Some(values) = bound.values(figures) else {
            if all && (!short || bound.judged == Yes) {
                return Err(format!("{} was not measured", bound.of.0).into());
            }
            continue;
        };
        let middle = median(&values);
        let slack = if short { 1.5 } else { 1.0 };
        let (sign, limit, held, fails) = match bound.must {
            AtLeast(limit) => (">=", limit, middle >= limit, middle < limit / slack),
            AtMost(limit) => ("<=", limit, middle <= limit, middle > limit * slack),
        };
        let fails = fails
            && match bound.judged {
                Yes => true,
                InFull => !short,
                No => false,
            };
        verdict.held &= !fails;
        verdict.table += &bound.line(
            figures,
            &values,
            &format!("{sign} {limit}"),
            match () {
                () if fails => "FAILS",
                () if held => "holds",
                () => "missed",
            },
        );
    }
    Ok(verdict)
}

impl Bound {
    /// What is bounded, round by round.
    fn values(&self, figures: &Figures) -> Option<Vec<f64>> {
        let of = figures.of(self.of.0, self.of.1)?;
        match self.by {
            None => Some(of.to_vec()),
            Some((what, who)) => {
                let mut by = figures.of(what, who)?.to_vec();
                // Of two peers in Python the faster one counts.
                if let (Python, Some(other)) = (who, figures.of(what, Who::Dateutil)) {
                    for (one, other) in by.iter_mut().zip(other) {
                        *one = one.min(*other);
                    }
                }
                Some(of.iter().zip(by).map(|(of, by)| of / by).collect())
            }
        }
    }

    fn line(&self, figures: &Figures, values: &[f64], limit: &str, verdict: &str) -> String {
        let show = |(what, who): (&str, Who)| {
            let unit = figures.unit(what).unwrap_or(Unit::Times);
            let shown = figures
                .of(what, who)
                .map(|values| unit.show(median(values)));
            shown.unwrap_or_default()
        };
        let against = self.by.map_or(String::new(), |by| {
            let name = match by.1 {
                Daemon => "daemon",
                Limit => "limit",
                Synced => "synced limit",
                Python | Who::Dateutil => "Python",
            };
            format!("{name} {}", show(by))
        });
        let unit = match self.by {
            Some(_) => Unit::Times,
            None => figures.unit(self.of.0).unwrap_or(Unit::Times),
        };
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        format!(
            "| {} | {} | {against} | **{}** ({} to {}) | {limit} | {verdict} |\n",
            self.of.0,
            show(self.of),
            unit.show(median(values)),
            unit.show(least),
            unit.show(most),
        )
    }
}
