//! Redirects: which ones are followed, and what the operator is told of them
//! (rule R8).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::RedirectRefusal;

/// Redirects that are followed one after the other.
pub(super) const MOST_REDIRECTS: usize = 3;

/// The longest address shown of a redirect, in characters.
const SHOWN: usize = 200;

/// Whether an answer with this status says where else to ask.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether the redirect holds for all later requests too.
pub(super) fn is_permanent(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 308)
}

/// Where to ask after `from` answered with a redirect, when `followed` others
/// came before it.
///
/// # Errors
/// [`RedirectRefusal`] when it is not followed.
pub(super) fn follow(
    from: &Url,
    method: &Method,
    status: StatusCode,
    headers: &HeaderMap,
    followed: usize,
) -> Result<Url, RedirectRefusal> {
    let address = headers
        .get(LOCATION)
        .and_then(|address| from.join(address.to_str().ok()?).ok());
    let mut to = address.ok_or(RedirectRefusal::NoAddress)?;
    if to.origin() != from.origin() {
        let origin = to.origin();
        let shown = if origin.is_tuple() {
            origin.ascii_serialization()
        } else {
            to.scheme().to_owned()
        };
        return Err(RedirectRefusal::OtherOrigin(short(&shown)));
    }
    // 307 and 308 say that the request is to be repeated as it is, elsewhere.
    let repeatable = *method == Method::GET || matches!(status.as_u16(), 307 | 308);
    if !repeatable {
        return Err(RedirectRefusal::NotRepeatable(short(to.path())));
    }
    if followed >= MOST_REDIRECTS {
        return Err(RedirectRefusal::TooMany(followed));
    }
    // Credentials of the redirect's own are not for us to use. An address with
    // an origin like ours can do without them.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    to.set_fragment(None);
    Ok(to)
}

fn short(address: &str) -> String {
    address.chars().take(SHOWN).collect()
}

/// The root that `to` stands under, if the same `segments` follow it: base and
/// version, as the API wants them now.
pub(super) fn root_of(to: &Url, segments: &[&str]) -> Option<Url> {
    if to.query().is_some() {
        return None;
    }
    let mut root = to.clone();
    {
        let mut path = root.path_segments_mut().ok()?;
        path.pop_if_empty();
        for _ in segments {
            path.pop();
        }
    }
    let mut again = root.clone();
    again
        .path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend(segments);
    (again.path() == to.path().trim_end_matches('/')).then_some(root)
}

/// Tells the operator of redirects that are followed, once for each change.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<BTreeMap<String, String>>);

impl Notices {
    /// A request for `segments` under `root` was answered at `to`.
    pub fn answered_at(&self, root: &Url, base: &Url, segments: &[&str], to: &Url) {
        let kind = match segments {
            [collection, _id, ..] => format!("{collection}/{{id}}"),
            _ => segments.join("/"),
        };
        let new_root = root_of(to, segments);
        let target = match (&new_root, segments) {
            (Some(new), _) => new.path().to_owned(),
            // Not one line for each dispatch.
            (None, [_, id, ..]) => to.path().replace(*id, "{id}"),
            (None, _) => to.path().to_owned(),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if new_root.as_ref() == Some(root) {
            known.remove(&kind);
            return;
        }
        if known.insert(kind.clone(), target.clone()).as_ref() == Some(&target) {
            return;
        }
        let advice = new_root.as_ref().and_then(|new| advice(base, new));
        tracing::warn!(
            from = format!("{}/{kind}", root.path().trim_end_matches('/')),
            to = short(&target),
            "the API redirects to another path on its own host, which is followed; {}",
            advice.unwrap_or_else(|| "set --api-url and --api-version to what it names".into())
        );
    }
}

/// What to set so that requests go to `new` without a redirect.
fn advice(base: &Url, new: &Url) -> Option<String> {
    let base_path = base.path().trim_end_matches('/');
    let version = new.path().strip_prefix(base_path)?.strip_prefix('/')?;
    let is_version = !version.is_empty() && !version.contains('/');
    is_version.then(|| format!("set --api-version {}", short(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "https://api.test/2022-04-15";

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn redirect(status: u16, method: Method, to: &str) -> Result<String, RedirectRefusal> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, to.parse().unwrap());
        let from = url("https://api.test/2022-04-15/dispatches");
        let status = StatusCode::from_u16(status).unwrap();
        follow(&from, &method, status, &headers, 0).map(Into::into)
    }

    #[test]
    fn a_redirect_within_the_origin_is_followed_and_no_other() {
        for to in [
            "/2027-01-01/dispatches",
            "//api.test/2027-01-01/dispatches",
            "https://api.test:443/2027-01-01/dispatches",
            "https://user:secret@API.test/2027-01-01/dispatches#part",
            "../2027-01-01/dispatches",
        ] {
            assert_eq!(
                redirect(301, Method::GET, to),
                Ok("https://api.test/2027-01-01/dispatches".into()),
                "{to}"
            );
        }
        for (to, shown) in [
            (
                "https://evil.test/2022-04-15/dispatches",
                "https://evil.test",
            ),
            ("//evil.test/", "https://evil.test"),
            ("http://api.test/2022-04-15/dispatches", "http://api.test"),
            ("https://api.test:8443/", "https://api.test:8443"),
            ("https://api.test@evil.test/", "https://evil.test"),
            ("https://api.test.evil.test/", "https://api.test.evil.test"),
            ("file:///etc/passwd", "file"),
            ("data:application/json,{}", "data"),
        ] {
            assert_eq!(
                redirect(302, Method::GET, to),
                Err(RedirectRefusal::OtherOrigin(shown.into())),
                "{to}"
            );
        }
        assert_eq!(
            redirect(302, Method::GET, "https://:0:0/"),
            Err(RedirectRefusal::NoAddress)
        );
    }

    #[test]
    fn what_changes_something_is_repeated_only_where_the_redirect_says_so() {
        let to = "/2027-01-01/webhooks";
        for method in [Method::POST, Method::DELETE] {
            for status in [307, 308] {
                assert!(redirect(status, method.clone(), to).is_ok());
            }
            for status in [301, 302, 303] {
                assert_eq!(
                    redirect(status, method.clone(), to),
                    Err(RedirectRefusal::NotRepeatable(to.into()))
                );
            }
        }
    }

    #[test]
    fn three_redirects_are_followed_and_no_fourth() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "/next".parse().unwrap());
        let from = url(ROOT);
        let followed =
            |followed| follow(&from, &Method::GET, StatusCode::FOUND, &headers, followed).is_ok();
        assert_eq!([0, 1, 2, 3].map(followed), [true, true, true, false]);
    }

    #[test]
    fn the_new_root_is_what_stands_before_the_same_resource() {
        for (to, segments, root) in [
            ("/v2/dispatches", &["dispatches"][..], Some("/v2")),
            ("/v2/dispatches/", &["dispatches"], Some("/v2")),
            ("/a/b/dispatches/d1", &["dispatches", "d1"], Some("/a/b")),
            ("/v2/events", &["dispatches"], None),
            ("/v2/dispatches/d2", &["dispatches", "d1"], None),
            ("/v2/dispatches?page=1", &["dispatches"], None),
        ] {
            let to = url("https://api.test").join(to).unwrap();
            let found = root_of(&to, segments);
            assert_eq!(found.as_ref().map(Url::path), root, "{to}");
        }
    }

    #[test]
    fn the_advice_names_the_option() {
        let advise = |base, new| advice(&url(base), &url(new));
        let host = "https://api.test";
        assert_eq!(
            advise(host, "https://api.test/2027-01-01"),
            Some("set --api-version 2027-01-01".into())
        );
        assert_eq!(
            advise("https://api.test/in/", "https://api.test/in/2027-01-01"),
            Some("set --api-version 2027-01-01".into())
        );
        assert_eq!(advise(host, "https://api.test/in/2027-01-01"), None);
        assert_eq!(advise(host, "https://api.test/"), None);
    }
}
