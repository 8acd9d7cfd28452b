//! Keeps the secrets of sinks out of logs and errors.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use thiserror::Error;

/// The prefix by which Standard Webhooks marks a secret written in base64.
const MARK: &str = "whsec_";

/// Padding is lost easily when a secret is copied.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The secrets that all sinks share.
#[derive(Debug, Clone, Default)]
pub struct SinkSecrets {
    signing: Option<Arc<ArcSwap<SigningKey>>>,
}

impl SinkSecrets {
    /// Nothing is signed.
    pub fn none() -> Self {
        Self::default()
    }

    /// What the HTTP sinks send is signed with `secret`: `whsec_` and base64,
    /// or any other text, whose bytes are then the key.
    ///
    /// # Errors
    /// [`SinkSecretError`].
    pub fn signing(secret: &SecretString) -> Result<Self, SinkSecretError> {
        Ok(Self {
            signing: Some(Arc::new(ArcSwap::from_pointee(SigningKey::parse(secret)?))),
        })
    }

    /// From now on all sinks that hold a copy sign with `secret`, if they sign
    /// at all.
    ///
    /// # Errors
    /// [`SinkSecretError`]; they sign as before.
    pub fn replace(&self, secret: &SecretString) -> Result<(), SinkSecretError> {
        let key = SigningKey::parse(secret)?;
        if let Some(signing) = &self.signing {
            signing.store(Arc::new(key));
        }
        Ok(())
    }

    pub(super) fn key(&self) -> Option<Arc<ArcSwap<SigningKey>>> {
        self.signing.clone()
    }
}

/// Why a sink secret cannot be used. Never shows it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SinkSecretError {
    /// Nothing was given, as an empty file does.
    #[error("the sink secret is empty: give a text, or leave the option out and nothing is signed")]
    Empty,
    /// It claims to be base64 and is not.
    #[error(
        "the sink secret begins with `whsec_`, but what follows is not base64: \
         copy it again, or leave `whsec_` out and the text itself is the key"
    )]
    NotBase64,
    /// The hash does not take it as a key.
    #[error("the sink secret has a length that cannot be used: give another")]
    Length,
}

/// Signs as the Standard Webhooks specification asks.
#[derive(Clone)]
pub(super) struct SigningKey {
    keyed: Hmac<Sha256>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

impl SigningKey {
    fn parse(secret: &SecretString) -> Result<Self, SinkSecretError> {
        let text = secret.expose_secret();
        let keyed = match text.strip_prefix(MARK) {
            Some(encoded) => {
                let key = zeroized(
                    LENIENT
                        .decode(encoded)
                        .map_err(|_| SinkSecretError::NotBase64)?,
                );
                keyed(key.expose_secret())
            }
            None => keyed(text.as_bytes()),
        }?;
        Ok(Self { keyed })
    }

    /// The value of the header `webhook-signature`.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = self.keyed.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

fn zeroized(bytes: Vec<u8>) -> secrecy::SecretSlice<u8> {
    secrecy::SecretSlice::from(bytes)
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>, SinkSecretError> {
    if key.is_empty() {
        return Err(SinkSecretError::Empty);
    }
    Hmac::new_from_slice(key).map_err(|_| SinkSecretError::Length)
}

/// The user and password of a URL.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    /// Secret too: tokens are often given in this place.
    pub(super) user: SecretString,
    pub(super) password: SecretString,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SigningKey {
        SigningKey::parse(&SecretString::from(text)).unwrap()
    }

    // The vectors were computed with another implementation of HMAC.
    #[test]
    fn a_whsec_secret_is_the_base64_of_the_key() {
        let signature = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn any_other_secret_is_the_key_itself() {
        let signature = key("plain words").sign("evt-7", 1_614_265_330, b"{}");
        assert_eq!(signature, "v1,DoFUpyw8MzX9QEUHMjaBeim0crUQKFy7pxa7HWe12U0=");
    }

    #[test]
    fn lost_padding_does_not_change_a_secret() {
        assert_eq!(
            key("whsec_YWI=").sign("a", 1, b""),
            key("whsec_YWI").sign("a", 1, b"")
        );
    }

    #[test]
    fn a_secret_that_is_no_key_is_refused_without_being_shown() {
        for (secret, error) in [
            ("", SinkSecretError::Empty),
            ("whsec_", SinkSecretError::Empty),
            ("whsec_no base64!", SinkSecretError::NotBase64),
        ] {
            let refused = SinkSecrets::signing(&SecretString::from(secret)).unwrap_err();
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("no base64!"));
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let secrets = SinkSecrets::signing(&SecretString::from("hush-hush")).unwrap();
        assert!(!format!("{secrets:?}").contains("hush"));
    }
}
