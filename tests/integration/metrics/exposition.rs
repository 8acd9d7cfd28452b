//! A strict reader of the classic text format: what Prometheus would put up
//! with, and what it should not have to.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// One line with a value.
#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

/// Metrics as they were written.
#[derive(Debug, Default)]
pub struct Exposition {
    /// The type of each metric.
    pub types: BTreeMap<String, String>,
    pub samples: Vec<Sample>,
}

impl Exposition {
    /// Reads it, and fails at the first thing that is not as it must be.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut read = Self::default();
        let mut lines = text.lines();
        let mut seen = BTreeSet::new();
        let mut current = String::new();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect(line);
                assert!(help.len() > 10 && help.ends_with('.'), "{line}");
                let typed = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
                let (again, kind) = typed.and_then(|typed| typed.split_once(' ')).expect(name);
                assert_eq!(name, again, "TYPE follows HELP");
                assert!(is_name(name), "{name}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                let before = read.types.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "{name} is there twice");
                name.clone_into(&mut current);
                continue;
            }
            let sample = Sample::read(line);
            let suffix = sample.name.strip_prefix(&current).expect(line);
            let fits = match read.types.get(&current).expect(line).as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                _ => suffix.is_empty(),
            };
            assert!(fits, "{line} is not of {current}");
            let series = (sample.name.clone(), sample.labels.clone());
            assert!(seen.insert(series), "{line} is there twice");
            assert!(sample.value.is_finite(), "{line}");
            assert!(
                sample.value >= 0.0 || sample.name.contains("skew"),
                "{line}"
            );
            read.samples.push(sample);
        }
        read.check_histograms();
        read
    }

    /// The value of the one series with these labels and no others.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Labels = owned(labels);
        self.samples
            .iter()
            .find(|sample| sample.name == name && sample.labels == wanted)
            .unwrap_or_else(|| panic!("no {name} with {labels:?}"))
            .value
    }

    /// The series of this name.
    pub fn series(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name)
    }

    /// Buckets grow, hold all that there is, and say so.
    fn check_histograms(&self) {
        for (name, _) in self.types.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for sample in self.series(&format!("{name}_bucket")) {
                let mut labels = sample.labels.clone();
                let bound = labels.remove("le").expect(name).parse().expect(name);
                buckets
                    .entry(labels)
                    .or_default()
                    .push((bound, sample.value));
            }
            assert!(!buckets.is_empty(), "{name} has no bucket");
            for (labels, buckets) in buckets {
                assert!(buckets.len() > 8, "{name} is too coarse: {buckets:?}");
                let grow = |(a, b): (&(f64, f64), &(f64, f64))| a.0 < b.0 && a.1 <= b.1;
                assert!(buckets.iter().zip(&buckets[1..]).all(grow), "{buckets:?}");
                let (bound, all) = *buckets.last().unwrap();
                assert_eq!(bound, f64::INFINITY);
                let same = |sample: &&Sample| sample.labels == labels;
                let count = self.series(&format!("{name}_count")).find(same);
                assert_eq!(count.expect(name).value, all, "{name} {labels:?}");
                let sum = self.series(&format!("{name}_sum")).find(same);
                assert_eq!(sum.expect(name).value > 0.0, all > 0.0, "{name} {labels:?}");
            }
        }
    }
}

impl Sample {
    fn read(line: &str) -> Self {
        let end = line.find(['{', ' ']).expect(line);
        let (name, mut rest) = line.split_at(end);
        assert!(is_name(name), "{line}");
        let mut labels = Labels::new();
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                let (label, value) = rest.split_once("=\"").expect(line);
                assert!(is_name(label), "{line}");
                let (value, after) = unquote(value).expect(line);
                let before = labels.insert(label.to_owned(), value);
                assert!(before.is_none(), "{line}");
                match after.strip_prefix(',') {
                    Some(more) => rest = more,
                    None => {
                        rest = after.strip_prefix('}').expect(line);
                        break;
                    }
                }
            }
        }
        let value = rest.strip_prefix(' ').expect(line);
        Self {
            name: name.to_owned(),
            labels,
            value: value.parse().expect(line),
        }
    }
}

/// A text up to the quote that ends it, and what is behind.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            _ => value.push(character),
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    let pairs = labels.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
