//! What a PromQL expression asks for, as far as that can be held against what
//! there is.

/// A metric in an expression, with what is wanted of its labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    pub name: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
}

/// The metrics in an expression, and the labels that it groups by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub selectors: Vec<Selector>,
    pub grouped_by: Vec<String>,
}

const GROUPINGS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
const WORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

impl Query {
    /// Reads an expression. Functions are passed over: promtool knows them.
    pub fn read(expression: &str) -> Self {
        let mut query = Self::default();
        let mut rest = expression;
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            if word == 0 {
                rest = match first {
                    '"' | '\'' => after(&rest[1..], first),
                    '[' => after(rest, ']'),
                    _ => &rest[first.len_utf8()..],
                };
                continue;
            }
            let (name, behind) = rest.split_at(word);
            let behind = behind.trim_start();
            rest = behind;
            if GROUPINGS.contains(&name) {
                let (labels, _) = behind[1..].split_once(')').expect(expression);
                let labels = labels.split(',').map(|label| label.trim().to_owned());
                query.grouped_by.extend(labels.filter(|l| !l.is_empty()));
                rest = after(behind, ')');
            } else if !first.is_ascii_digit() && !WORDS.contains(&name) && !is_called(behind) {
                let mut matchers = Vec::new();
                if let Some(inner) = behind.strip_prefix('{') {
                    (matchers, rest) = read_matchers(inner);
                }
                query.selectors.push(Selector {
                    name: name.to_owned(),
                    matchers,
                });
            }
        }
        query
    }
}

/// Whether what stands before `behind` is a function or an aggregation.
fn is_called(behind: &str) -> bool {
    let word = behind.split(|c| !is_word(c)).next();
    behind.starts_with('(') || word.is_some_and(|word| ["by", "without"].contains(&word))
}

fn read_matchers(text: &str) -> (Vec<(String, String, String)>, &str) {
    let mut matchers = Vec::new();
    let mut rest = text.trim_start();
    while !rest.starts_with('}') {
        let label_end = rest.find(|c: char| !is_word(c)).expect(text);
        let (label, behind) = rest.split_at(label_end);
        let (operator, behind) = behind.split_once('"').expect(text);
        let (value, behind) = behind.split_once('"').expect(text);
        let parts = [label, operator.trim(), value].map(str::to_owned);
        matchers.push(parts.into());
        rest = behind.trim_start_matches([',', ' ']);
    }
    (matchers, &rest[1..])
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | ':')
}

fn after(text: &str, end: char) -> &str {
    text.split_once(end).map_or("", |(_, behind)| behind)
}

#[apply(test)]
fn the_metrics_of_an_expression_are_found() {
    let selector = |name: &str, matchers: &[(&str, &str, &str)]| Selector {
        name: name.to_owned(),
        matchers: matchers
            .iter()
            .map(|(l, o, v)| ((*l).to_owned(), (*o).to_owned(), (*v).to_owned()))
            .collect(),
    };
    assert_eq!(
        Query::read(
            "histogram_quantile(0.5, sum by (le, a) (rate(x_bucket{a=\"1\", b=~\"$b\"}[5m]))) > 1e3 and y or (z)"
        ),
        Query {
            selectors: vec![
                selector("x_bucket", &[("a", "=", "1"), ("b", "=~", "$b")]),
                selector("y", &[]),
                selector("z", &[]),
            ],
            grouped_by: vec!["le".to_owned(), "a".to_owned()],
        }
    );
}
