//! Decides which format of metrics a client gets.

use std::fmt;

use http::HeaderMap;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::status::accept::named;

/// A format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// The text format of Prometheus, which everything reads.
    Classic,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

impl Format {
    /// The format that `headers` ask for: OpenMetrics where it is named, in a
    /// version that we write, and is liked as well as the other.
    pub fn wanted(headers: &HeaderMap) -> Self {
        let open = named(headers, "application/openmetrics-text", Some("1.0.0"));
        let classic = named(headers, "text/plain", None);
        if open > 0.0 && open >= classic {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What `registry` holds, in this format.
    pub fn write(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut written = String::new();
        match self {
            Self::Classic => prometheus_text::encode(&mut written, registry)?,
            Self::OpenMetrics => text::encode(&mut written, registry)?,
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn openmetrics_is_written_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let newer = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1";
        for (accept, wanted) in [
            (prometheus, Format::OpenMetrics),
            (newer, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text, text/plain",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=0.0.1",
                Format::Classic,
            ),
            ("application/openmetrics-text;q=0", Format::Classic),
            (
                "text/plain, application/openmetrics-text;q=0.5",
                Format::Classic,
            ),
            ("text/html,*/*;q=0.8", Format::Classic),
            ("", Format::Classic),
            (";;=,q", Format::Classic),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::wanted(&headers), wanted, "{accept}");
        }
        assert_eq!(Format::wanted(&HeaderMap::new()), Format::Classic);
    }
}
