//! Answers 304 to clients that have the newest answer already.

use headers::{ETag, HeaderMapExt, IfNoneMatch};
use http::header::{CACHE_CONTROL, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

/// What a client said it has.
#[derive(Debug, Clone)]
pub(super) struct Known(Option<IfNoneMatch>);

impl Known {
    /// Reads `If-None-Match`.
    pub fn read(headers: &HeaderMap) -> Self {
        Self(headers.typed_get())
    }

    /// The answer under `etag`: 304 if the client has it, else what `write`
    /// makes.
    pub fn answer(&self, etag: &str, write: impl FnOnce() -> Response) -> Response {
        let has = |tag: ETag| {
            self.0
                .as_ref()
                .is_some_and(|known| !known.precondition_passes(&tag))
        };
        let mut reply = if etag.parse().is_ok_and(has) {
            let mut reply = Response::default();
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            reply
        } else {
            write()
        };
        if reply.status().is_server_error() {
            return reply;
        }
        let headers = reply.headers_mut();
        if let Ok(etag) = HeaderValue::from_str(etag) {
            headers.insert(ETAG, etag);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        reply
    }
}

#[cfg(test)]
mod tests {
    use http::header::IF_NONE_MATCH;

    use super::*;
    use crate::http::{json_reply, refusal};

    fn asked(tags: &[&str]) -> Response {
        let mut headers = HeaderMap::new();
        for tag in tags {
            headers.append(IF_NONE_MATCH, tag.parse().unwrap());
        }
        Known::read(&headers).answer("\"7\"", || json_reply(StatusCode::OK, &1))
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for tags in [
            &["\"7\""][..],
            &["W/\"7\""],
            &["\"6\", \"7\""],
            &["\"6\"", "\"7\""],
            &["*"],
        ] {
            assert_eq!(asked(tags).status(), 304, "{tags:?}");
        }
        for tags in [&[][..], &["\"6\""], &["7"], &["\"77\""]] {
            let reply = asked(tags);
            assert_eq!(reply.status(), 200, "{tags:?}");
            assert_eq!(reply.headers()[ETAG], "\"7\"");
        }
    }

    #[test]
    fn a_failure_gets_no_tag() {
        let reply = Known::read(&HeaderMap::new()).answer("\"7\"", || {
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "see the log")
        });
        assert_eq!(reply.headers().get(ETAG), None);
    }
}
