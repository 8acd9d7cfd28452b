//! Words that people read.

/// A count and what is counted: `1 delivery`, `2 deliveries`.
pub fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The first of `of` names, and how many there are beside them: "a, b and 7 more".
pub fn first_of<'n>(names: impl IntoIterator<Item = &'n str>, of: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let text = names.join(", ");
    match of.saturating_sub(names.len()) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// What somebody else wrote, fit for a terminal: nothing in it can steer one.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
