//! Words that people read.

/// A count and what is counted: `1 delivery`, `2 deliveries`.
pub fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
