//! Reads what a client likes to get, from `Accept`.

use http::HeaderMap;
use http::header::ACCEPT;

/// How well a client likes this media type where it names it: 0, which is not at all, to
/// 1. `version` is the only one that will do, if it asks for any.
pub(super) fn named(headers: &HeaderMap, media_type: &str, version: Option<&str>) -> f32 {
    let ranges = ranges(headers).filter(|range| range.media_type == media_type);
    let ranges = ranges.filter(|range| match (&range.version, version) {
        (Some(asked), Some(ours)) => asked == ours,
        _ => true,
    });
    ranges.map(|range| range.quality).fold(0.0, f32::max)
}

/// How well a client likes this media type, also where it names only `*/*` or the like.
/// What it names is the more exact word.
pub(super) fn liked(headers: &HeaderMap, media_type: &str) -> f32 {
    let family = media_type.split('/').next().unwrap_or_default();
    let patterns = [media_type.to_owned(), format!("{family}/*"), "*/*".into()];
    let liked = patterns.iter().find_map(|pattern| {
        let ranges = ranges(headers).filter(|range| range.media_type == *pattern);
        ranges.map(|range| range.quality).reduce(f32::max)
    });
    liked.unwrap_or(0.0)
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = Range> {
    let values = headers.get_all(ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(Range::read)
}

/// One of the things that a client takes.
struct Range {
    media_type: String,
    version: Option<String>,
    /// How well it is liked: 0, which is not at all, to 1.
    quality: f32,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self {
            media_type: parts.next()?.to_ascii_lowercase(),
            version: None,
            quality: 1.0,
        };
        for part in parts {
            match part.split_once('=') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => {
                    range.quality = value.trim().parse().unwrap_or(0.0);
                }
                Some((name, value)) if name.trim().eq_ignore_ascii_case("version") => {
                    range.version = Some(value.trim().trim_matches('"').to_owned());
                }
                _ => {}
            }
        }
        Some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_more_exact_word_than_a_star() {
        let liked = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            liked(&headers, "application/json")
        };
        assert_eq!(liked("application/json;q=0.3, */*"), 0.3);
        assert_eq!(liked("application/*;q=0.4, */*;q=0.9"), 0.4);
        assert_eq!(liked("text/csv, */*;q=0.1"), 0.1);
        assert_eq!(liked("text/csv"), 0.0);
        assert_eq!(liked(";;=,q"), 0.0);
    }
}
