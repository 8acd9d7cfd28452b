//! Checks the status token.
//!
//! It may hold customers' data, and `POST /poll` costs budget. A browser on the
//! operator's machine can be made to ask by any page it shows, so names and
//! origins that are not ours are refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::http::refusal;
use crate::secret::Secret;

/// Lets requests to the status listener pass, or not. Health and readiness do
/// not come by here.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Where the listener is bound.
    address: SocketAddr,
    /// Names beside that under which it may be asked, in lower case.
    names: Vec<String>,
    token: Option<Secret>,
}

impl Guard {
    /// A guard for the listener bound at `address`.
    pub fn new(address: SocketAddr, names: &[String], token: Option<Secret>) -> Self {
        Self {
            address,
            names: names.iter().map(|name| name.to_lowercase()).collect(),
            token,
        }
    }

    pub(super) fn filter(self) -> BoxedFilter<()> {
        self.filter_by(Self::check)
    }

    /// For the page, which holds no data and asks for the token itself: a
    /// browser that opens an address can send none.
    pub(super) fn page_filter(self) -> BoxedFilter<()> {
        self.filter_by(Self::check_page)
    }

    fn filter_by(self, check: fn(&Self, &HeaderMap) -> Result<(), Refused>) -> BoxedFilter<()> {
        let guard = Arc::new(self);
        warp::header::headers_cloned()
            .and_then(move |headers: HeaderMap| {
                let checked = check(&guard, &headers).map_err(|why| Refusal {
                    why,
                    reader: Reader::of(&headers),
                });
                async move { checked.map_err(warp::reject::custom::<Refusal>) }
            })
            .untuple_one()
            .boxed()
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        if let Some(token) = &self.token {
            // Whoever knows the token was let in by the operator.
            return if bears(headers, &token.get()) {
                Ok(())
            } else {
                Err(Refused::Token)
            };
        }
        self.check_name(headers)
    }

    fn check_page(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match &self.token {
            Some(token) if bears(headers, &token.get()) => Ok(()),
            _ => self.check_name(headers),
        }
    }

    fn check_name(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let host = headers
            .get(HOST)
            .and_then(|host| host.to_str().ok()?.parse::<Authority>().ok())
            .ok_or(Refused::Host)?;
        if !self.is_own(&host) {
            return Err(Refused::Host);
        }
        match headers.get(ORIGIN) {
            None => Ok(()),
            Some(origin) if is_origin_of(origin, &host) => Ok(()),
            Some(_) => Err(Refused::Origin),
        }
    }

    /// Whether `host` is a name of this listener. The port does not count: it
    /// may be forwarded.
    fn is_own(&self, host: &Authority) -> bool {
        let name = host.host().to_lowercase();
        if self.names.contains(&name) || self.names.iter().any(|own| own == host.as_str()) {
            return true;
        }
        let bound = self.address.ip();
        let literal = name.trim_start_matches('[').trim_end_matches(']');
        match literal.parse::<IpAddr>() {
            // A name can be made to point here, an address cannot.
            Ok(_) if bound.is_unspecified() => true,
            Ok(address) => address == bound || (address.is_loopback() && bound.is_loopback()),
            Err(_) => name == "localhost" && (bound.is_loopback() || bound.is_unspecified()),
        }
    }
}

fn bears(headers: &HeaderMap, token: &SecretString) -> bool {
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_first_chunk::<7>());
    match given {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") => {
            given.ct_eq(token.expose_secret().as_bytes()).into()
        }
        _ => false,
    }
}

fn is_origin_of(origin: &HeaderValue, host: &Authority) -> bool {
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    ["http://", "https://"]
        .iter()
        .filter_map(|scheme| origin.strip_prefix(scheme))
        .any(|authority| authority.eq_ignore_ascii_case(host.as_str()))
}

/// Why a request does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// No token, or another one.
    Token,
    /// Asked under a name that is not ours.
    Host,
    /// A page of another site asks.
    Origin,
}

/// A request that does not pass, and who reads the answer.
#[derive(Debug)]
pub(super) struct Refusal {
    why: Refused,
    reader: Reader,
}

impl warp::reject::Reject for Refusal {}

impl Refusal {
    pub fn reply(&self) -> Response {
        match &self.reader {
            Reader::Program => self.why.reply(),
            Reader::Person { host } => self.why.reply_to_person(host),
        }
    }
}

/// Who reads an answer.
#[derive(Debug)]
enum Reader {
    Program,
    /// A person with a browser that asked for this host.
    Person {
        host: String,
    },
}

impl Reader {
    /// A browser says that it likes HTML best; programs do not ask for it.
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let first = accept.and_then(|accept| accept.split([',', ';']).next());
        if first.map(str::trim) != Some("text/html") {
            return Self::Program;
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.and_then(|host| host.parse::<Authority>().ok());
        let name = host.map_or_else(String::new, |host| host.host().to_owned());
        Self::Person {
            host: name.chars().take(253).collect(),
        }
    }
}

impl Refused {
    /// The same status as [`Self::reply`], with a few words on how to get in. They are
    /// plain text, in which nothing of the request can be markup.
    fn reply_to_person(self, host: &str) -> Response {
        let mut reply = self.reply();
        let text = match self {
            Self::Token => "This is the status listener of dispatchd, and it needs the status token.\n\n\
                In a browser: open / on this address and enter the token there.\n\
                In a terminal: dispatchd status --status-token-file FILE\n\
                With curl: curl -H 'Authorization: Bearer TOKEN' URL\n\n\
                The token is what dispatchd was started with as --status-token or --status-token-file.\n"
                .to_owned(),
            Self::Host => format!(
                "This is the status listener of dispatchd. It was asked under the name `{host}`, which is not\n\
                one of its own, so it does not answer: another site could stand behind that name.\n\n\
                To get in, do one of these:\n\
                - start dispatchd with --status-host {host}\n\
                - start dispatchd with --status-token-file FILE, and show that token\n\
                - from your own machine: ssh -L 5001:127.0.0.1:5001 SERVER (with the port of --status-listen\n  \
                  at the end), then open http://127.0.0.1:5001/\n"
            ),
            Self::Origin => "This is the status listener of dispatchd. A page of another site asked for this, and it\n\
                does not answer those. Open the address itself in a tab of its own.\n"
                .to_owned(),
        };
        reply.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        *reply.body_mut() = text.into();
        reply
    }

    fn reply(self) -> Response {
        match self {
            Self::Token => {
                let mut reply = refusal(
                    StatusCode::UNAUTHORIZED,
                    "this needs the header Authorization: Bearer TOKEN with dispatchd's status token (--status-token or --status-token-file)",
                );
                reply
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                reply
            }
            Self::Host => refusal(
                StatusCode::FORBIDDEN,
                "asked under a name that is not this listener's; --status-host adds one, and a status token makes any name do",
            ),
            Self::Origin => refusal(
                StatusCode::FORBIDDEN,
                "a page of another origin may not ask",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    fn guard(address: &str) -> Guard {
        Guard::new(address.parse().unwrap(), &["Ops.example".to_owned()], None)
    }

    #[test]
    fn only_names_of_its_own_are_served() {
        let asked = |guard: &Guard, host: &str| guard.check(&headers(&[(HOST, host)]));
        let local = guard("127.0.0.1:5001");
        for host in [
            "127.0.0.1:5001",
            "localhost:5001",
            "localhost",
            "[::1]:9",
            "ops.example",
        ] {
            assert_eq!(asked(&local, host), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:5001",
            "10.0.0.1",
            "localhost.evil.example",
        ] {
            assert_eq!(asked(&local, host), Err(Refused::Host), "{host}");
        }
        assert_eq!(local.check(&headers(&[])), Err(Refused::Host));
        let everywhere = guard("0.0.0.0:5001");
        assert_eq!(asked(&everywhere, "192.168.1.7:5001"), Ok(()));
        assert_eq!(asked(&everywhere, "evil.example"), Err(Refused::Host));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let local = guard("127.0.0.1:5001");
        let from = |origin| local.check(&headers(&[(HOST, "localhost:5001"), (ORIGIN, origin)]));
        assert_eq!(from("http://localhost:5001"), Ok(()));
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:80",
            "file://",
        ] {
            assert_eq!(from(origin), Err(Refused::Origin), "{origin}");
        }
    }

    #[test]
    fn with_a_token_nothing_else_opens_and_it_opens_everything() {
        let guard = Guard::new(
            "127.0.0.1:1".parse().unwrap(),
            &[],
            Some(Secret::fixed("t0ken".into())),
        );
        let with = |value| guard.check(&headers(&[(AUTHORIZATION, value), (HOST, "elsewhere")]));
        assert_eq!(with("Bearer t0ken"), Ok(()));
        assert_eq!(with("bearer t0ken"), Ok(()));
        for wrong in [
            "Bearer t0keN",
            "Bearer ",
            "Bearer t0ken2",
            "Basic t0ken",
            "t0ken",
        ] {
            assert_eq!(with(wrong), Err(Refused::Token), "{wrong}");
        }
        assert_eq!(
            guard.check(&headers(&[(HOST, "127.0.0.1")])),
            Err(Refused::Token)
        );
        let page = |pairs: &[_]| guard.check_page(&headers(pairs));
        assert_eq!(page(&[(HOST, "127.0.0.1")]), Ok(()));
        assert_eq!(page(&[(HOST, "elsewhere")]), Err(Refused::Host));
        let known = [(HOST, "elsewhere"), (AUTHORIZATION, "Bearer t0ken")];
        assert_eq!(page(&known), Ok(()));
    }

    #[test]
    fn a_person_is_told_how_to_get_in_and_a_program_gets_json() {
        let told = |why: Refused, pairs: &[_]| {
            let refusal = Refusal {
                why,
                reader: Reader::of(&headers(pairs)),
            };
            let reply = refusal.reply();
            let kind = reply.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
            (reply.status().as_u16(), kind)
        };
        let browser = || {
            let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
            (ACCEPT, accept)
        };
        let text = "text/plain; charset=utf-8".to_owned();
        assert_eq!(told(Refused::Token, &[browser()]), (401, text.clone()));
        assert_eq!(told(Refused::Host, &[browser()]), (403, text));
        let json = (401, "application/json".to_owned());
        for pairs in [
            &[][..],
            &[(ACCEPT, "*/*")],
            &[(ACCEPT, "application/json, text/html")],
        ] {
            assert_eq!(told(Refused::Token, pairs), json, "{pairs:?}");
        }
    }
}
