//! Compares what daemons that take turns must have in common.
//!
//! A leader writes its [`Fingerprint`] into the lease. A standby compares it with its
//! own, and is not ready if it would act differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The parts of a fingerprint, as operators know them.
const PARTS: [&str; 7] = [
    "sinks",
    "routes",
    "--pre-curtail",
    "--curtail-on-test",
    "--public-url",
    "--sink-secret",
    "--webhook-secret",
];

/// Bytes of a part's hash that are kept.
const HASH: usize = 8;

/// Bytes that are kept of the keyed hash of a secret. Whoever reads the database reads the
/// key, too, and could try guesses. With so few bytes one in 65,536 wrong guesses looks
/// right, so that none is confirmed, and two secrets that differ pass as one as rarely.
const OF_SECRET: usize = 2;

/// What decides how a daemon acts. All texts are without secrets: what is made of them
/// lies in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Each sink's name and where it delivers to, in any order.
    pub sinks: Vec<(String, String)>,
    /// Each sink's name and what is routed to it, in any order.
    pub routes: Vec<(String, String)>,
    /// `--pre-curtail`
    pub pre_curtail: Duration,
    /// `--curtail-on-test`
    pub curtail_on_test: bool,
    /// `--public-url`
    pub public_url: Option<String>,
    /// What signs what the HTTP sinks send: receivers refuse another signature.
    pub sink_secret: Option<SecretMark>,
    /// What webhooks have in their path: a daemon with another one answers them 404.
    pub webhook_secret: Option<SecretMark>,
}

/// Tells a secret from another one, and tells nobody the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMark(String);

impl SecretMark {
    /// The mark of `secret` among daemons that share a store with `store_secret`.
    pub fn new(store_secret: &str, secret: &SecretString) -> Self {
        // A key of any length is taken.
        let keyed = Hmac::<Sha256>::new_from_slice(store_secret.as_bytes());
        let Ok(mut keyed) = keyed else {
            return Self(String::new());
        };
        keyed.update(b"fingerprint of ");
        keyed.update(secret.expose_secret().as_bytes());
        Self(hex(&keyed.finalize().into_bytes(), OF_SECRET))
    }
}

impl Fingerprint {
    /// `name=hash;name=hash;...`, the same for all daemons that act alike. A later version
    /// may add parts.
    pub fn text(&self) -> String {
        let values = [
            pairs(&self.sinks),
            pairs(&self.routes),
            self.pre_curtail.as_nanos().to_string(),
            self.curtail_on_test.to_string(),
            // A URL that is empty is another one than none.
            json!(self.public_url).to_string(),
            secret(self.sink_secret.as_ref()),
            secret(self.webhook_secret.as_ref()),
        ];
        let parts = PARTS.iter().zip(values);
        let parts = parts.map(|(name, value)| format!("{name}={}", hash(&value)));
        parts.collect::<Vec<_>>().join(";")
    }
}

/// In one order, whatever order they are configured in.
fn pairs(pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<_> = pairs.iter().collect();
    pairs.sort_unstable();
    json!(pairs).to_string()
}

fn secret(mark: Option<&SecretMark>) -> String {
    json!(mark.map(|mark| &mark.0)).to_string()
}

fn hash(value: &str) -> String {
    hex(&Sha256::digest(value), HASH)
}

/// The first `count` bytes.
fn hex(bytes: &[u8], count: usize) -> String {
    let first = bytes.iter().take(count);
    first.fold(String::new(), |mut hex, byte| {
        // A string takes all that is written to it.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// In which parts two fingerprints differ. A part that one of them lacks is unknown to
/// that version of the program, and does not count.
pub fn fingerprint_differs(ours: &str, theirs: &str) -> Vec<&'static str> {
    let (ours, theirs) = (read(ours), read(theirs));
    let differ = |name: &&str| match (ours.get(name), theirs.get(name)) {
        (Some(ours), Some(theirs)) => ours != theirs,
        _ => false,
    };
    PARTS.into_iter().filter(differ).collect()
}

fn read(text: &str) -> BTreeMap<&str, &str> {
    let parts = text.split(';').filter_map(|part| part.split_once('='));
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint {
            sinks: vec![pair("a", "http://a"), pair("b", "stdout")],
            routes: vec![pair("a", "site-*"), pair("b", "*")],
            pre_curtail: Duration::from_secs(60),
            curtail_on_test: false,
            public_url: None,
            sink_secret: None,
            webhook_secret: None,
        }
    }

    /// Daemons of other builds read it, so that it must stay as it is.
    #[test]
    fn daemons_that_act_alike_have_the_same_one() {
        let mut turned = fingerprint();
        turned.sinks.reverse();
        turned.routes.reverse();
        assert_eq!(turned.text(), fingerprint().text());
        assert!(fingerprint_differs(&turned.text(), &fingerprint().text()).is_empty());
        let empty = Fingerprint::default().text();
        assert_eq!(
            empty,
            "sinks=4f53cda18c2baa0c;routes=4f53cda18c2baa0c;--pre-curtail=5feceb66ffc86f38;\
             --curtail-on-test=fcbcf165908dd18a;--public-url=74234e98afe7498f;\
             --sink-secret=74234e98afe7498f;--webhook-secret=74234e98afe7498f"
        );
    }

    #[test]
    fn each_difference_is_named() {
        let ours = fingerprint();
        let differ = |change: &dyn Fn(&mut Fingerprint)| {
            let mut theirs = ours.clone();
            change(&mut theirs);
            fingerprint_differs(&ours.text(), &theirs.text())
        };
        assert_eq!(
            differ(&|other| other.sinks[0] = pair("a", "http://c")),
            ["sinks"]
        );
        assert_eq!(
            differ(&|other| other.routes[0] = pair("a", "site-1")),
            ["routes"]
        );
        assert_eq!(
            differ(&|other| other.pre_curtail = Duration::ZERO),
            ["--pre-curtail"]
        );
        assert_eq!(
            differ(&|other| other.curtail_on_test = true),
            ["--curtail-on-test"]
        );
        let url = |other: &mut Fingerprint| other.public_url = Some("https://a".into());
        assert_eq!(differ(&url), ["--public-url"]);
        assert_eq!(differ(&|other| *other = Fingerprint::default()).len(), 3);
        let mark = |secret: &str| Some(SecretMark::new("of the store", &secret.into()));
        assert_eq!(
            differ(&|other| other.sink_secret = mark("one")),
            ["--sink-secret"]
        );
        assert_eq!(
            differ(&|other| other.webhook_secret = mark("one")),
            ["--webhook-secret"]
        );
    }

    #[test]
    fn a_secret_is_told_from_another_one_and_is_not_in_the_mark() {
        let mark = |store: &str, secret: &str| SecretMark::new(store, &secret.into());
        assert_eq!(mark("store", "hush"), mark("store", "hush"));
        assert_ne!(mark("store", "hush"), mark("store", "hash"));
        assert_ne!(mark("store", "hush"), mark("another", "hush"));
        assert_eq!(mark("store", "hush").0.len(), 2 * OF_SECRET);
    }

    #[test]
    fn a_part_that_only_one_version_knows_is_no_difference() {
        let ours = fingerprint().text();
        let newer = format!("{ours};--new=1234");
        assert!(fingerprint_differs(&ours, &newer).is_empty());
        assert!(fingerprint_differs(&newer, &ours).is_empty());
        for unreadable in ["", "x", ";;="] {
            assert!(fingerprint_differs(&ours, unreadable).is_empty());
        }
    }
}
