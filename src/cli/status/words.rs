//! Writes times and numbers as short as they can be read.

use chrono::{DateTime, Utc};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A time, to the minute.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.format("%m-%d %H:%MZ").to_string()
}

/// A time, or that it is not known yet.
pub(super) fn end(end: Option<DateTime<Utc>>) -> String {
    end.map_or_else(|| "open".to_owned(), time)
}

/// How long ago, or in how long.
pub(super) fn relative(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (time - now).num_seconds().unsigned_abs();
    if time > now {
        format!("in {}", span(seconds))
    } else {
        format!("{} ago", span(seconds))
    }
}

/// A time span in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let two = |large: u64, unit: char, small: u64, smaller: char| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{smaller}")
        }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match minutes {
        0 => format!("{seconds}s"),
        1..10 => two(minutes, 'm', seconds % 60, 's'),
        10..60 => format!("{minutes}m"),
        60..1440 => two(hours, 'h', minutes % 60, 'm'),
        _ => two(days, 'd', hours % 24, 'h'),
    }
}

/// `text` in lines of `width` at most, broken between words where possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for mut word in text.split_whitespace() {
        loop {
            let used = line.width();
            let gap = usize::from(used > 0);
            if used + gap + word.width() <= width {
                line.extend((gap > 0).then_some(' '));
                line.push_str(word);
                break;
            }
            if used > 0 {
                lines.push(std::mem::take(&mut line));
            } else {
                let first = word.chars().next().map_or(0, char::len_utf8);
                let (fits, rest) = word.split_at(fitting(word, width).max(first));
                lines.push(fits.to_owned());
                word = rest;
            }
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// `text` in `width` columns at most.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let kept = fitting(text, width.saturating_sub(1));
    format!("{}…", text.get(..kept).unwrap_or_default())
}

/// `text`, filled up to `width` columns.
pub(super) fn fill(text: &str, width: usize) -> String {
    let gap = width.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(gap))
}

/// How many bytes of `text` fit into `width` columns, of which some letters take
/// two.
fn fitting(text: &str, width: usize) -> usize {
    let mut used = 0;
    let beyond = text.char_indices().find(|(_, letter)| {
        used += letter.width().unwrap_or(0);
        used > width
    });
    beyond.map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_two_largest_units() {
        let written: Vec<String> = [0, 59, 60, 61, 600, 661, 3600, 3661, 7260, 86400, 90000]
            .into_iter()
            .map(span)
            .collect();
        assert_eq!(
            written,
            [
                "0s", "59s", "1m", "1m1s", "10m", "11m", "1h", "1h1m", "2h1m", "1d", "1d1h"
            ]
        );
    }

    #[test]
    fn lines_are_broken_between_words_and_long_words_within() {
        assert_eq!(wrap("to be or not", 6), ["to be", "or not"]);
        assert_eq!(wrap("a incomprehensible", 8), ["a", "incompre", "hensible"]);
        assert_eq!(wrap("", 8), [""]);
        assert_eq!(cut("incompréhensible", 8), "incompr…");
        assert_eq!(cut("short", 8), "short");
    }
}
