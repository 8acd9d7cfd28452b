//! What goes wrong on demand.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest delay that can be asked for, in ms: an hour. It stands for a
/// connection that hangs.
const LONGEST_MS: u64 = 3_600_000;

/// What goes wrong, and how often. The sandbox starts with nothing wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// The share of webhooks that are lost, 0 to 1. A lost one counts as
    /// delivered with the sender: it is never resent and nobody is emailed.
    pub drop_webhooks: f64,
    /// The share of webhooks that are sent twice, 0 to 1.
    pub duplicate_webhooks: f64,
    /// How long a webhook is under way, in ms: at least, at most. It is drawn
    /// for each, so that they overtake one another.
    pub webhook_delay_ms: [u64; 2],
    /// The share of API requests answered with an error, 0 to 1.
    pub api_error_rate: f64,
    /// The status of those errors, 400 to 599.
    pub api_error_status: u16,
    /// How long an API answer is under way, in ms. It tells what was true
    /// when the request came in.
    pub api_delay_ms: u64,
    /// API requests answered in a minute; more get 429. 0 is no limit.
    pub rate_limit_per_minute: u32,
    /// The share of API answers cut off in the middle, 0 to 1. Their
    /// `content-length` is that of what is left: the JSON is broken, the HTTP
    /// is not.
    pub truncate_bodies: f64,
    /// The list of dispatches is empty. Each still answers by its id.
    pub empty_list: bool,
    /// How long after a failed delivery the first resend comes, in ms. Each
    /// later one waits twice as long.
    pub retry_base_ms: u64,
    /// Where all chances come from. Setting it starts them again.
    pub seed: u64,
    /// A dispatch asked for by its id comes in a list of one, as the webhook
    /// tutorial shows it. `false`: bare, as the OpenAPI reference says and the
    /// published example server needs it.
    pub wrap_by_id: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            drop_webhooks: 0.0,
            duplicate_webhooks: 0.0,
            webhook_delay_ms: [0, 0],
            api_error_rate: 0.0,
            api_error_status: 500,
            api_delay_ms: 0,
            rate_limit_per_minute: 0,
            truncate_bodies: 0.0,
            empty_list: false,
            retry_base_ms: 1000,
            seed: 0,
            wrap_by_id: false,
        }
    }
}

/// Why faults were not taken. Nothing is changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultsError {
    /// It is no JSON object.
    #[error("faults are a JSON object")]
    NoObject,
    /// There is no such fault.
    #[error("there is no fault called `{0}`")]
    Unknown(String),
    /// The value is of the wrong type.
    #[error("`{field}`: {reason}")]
    Type {
        /// The field at fault.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The value is out of range.
    #[error("`{field}` must be {wanted}")]
    Range {
        /// The field at fault.
        field: &'static str,
        /// What it may be.
        wanted: &'static str,
    },
}

impl Faults {
    /// These faults with the fields that `patch` names replaced.
    ///
    /// # Errors
    /// [`FaultsError`] that names the field at fault.
    pub fn patched(&self, patch: &Value) -> Result<Self, FaultsError> {
        let patch = patch.as_object().ok_or(FaultsError::NoObject)?;
        let mut faults = self.clone();
        // Field by field, as serde does not say which one had the wrong type.
        for (field, value) in patch {
            let mut fields = faults.fields();
            if fields.insert(field.clone(), value.clone()).is_none() {
                return Err(FaultsError::Unknown(field.clone()));
            }
            faults = serde_json::from_value(Value::Object(fields)).map_err(|error| {
                FaultsError::Type {
                    field: field.clone(),
                    reason: error.to_string(),
                }
            })?;
        }
        faults.check()?;
        Ok(faults)
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`FaultsError::Range`] for the first that is not.
    pub fn check(&self) -> Result<(), FaultsError> {
        const SHARE: &str = "a number from 0 to 1";
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let [min, max] = self.webhook_delay_ms;
        let rules = [
            ("drop_webhooks", share(self.drop_webhooks), SHARE),
            ("duplicate_webhooks", share(self.duplicate_webhooks), SHARE),
            (
                "webhook_delay_ms",
                min <= max && max <= LONGEST_MS,
                "[min, max] with 0 <= min <= max <= 3600000",
            ),
            ("api_error_rate", share(self.api_error_rate), SHARE),
            (
                "api_error_status",
                (400..=599).contains(&self.api_error_status),
                "a status from 400 to 599",
            ),
            (
                "api_delay_ms",
                self.api_delay_ms <= LONGEST_MS,
                "from 0 to 3600000",
            ),
            ("truncate_bodies", share(self.truncate_bodies), SHARE),
            (
                "retry_base_ms",
                self.retry_base_ms <= LONGEST_MS,
                "from 0 to 3600000",
            ),
        ];
        rules
            .into_iter()
            .find(|(_, holds, _)| !holds)
            .map_or(Ok(()), |(field, _, wanted)| {
                Err(FaultsError::Range { field, wanted })
            })
    }

    fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            // A struct of plain values always becomes an object.
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names_and_keeps_the_rest() {
        let before = Faults {
            api_delay_ms: 40,
            ..Faults::default()
        };
        let after = before
            .patched(&json!({"drop_webhooks": 1, "webhook_delay_ms": [5, 9]}))
            .unwrap();
        assert_eq!(
            after,
            Faults {
                drop_webhooks: 1.0,
                webhook_delay_ms: [5, 9],
                ..before
            }
        );
    }

    #[test]
    fn a_refused_patch_names_the_field_at_fault() {
        let refused = [
            json!({"drop_webhook": 1}),
            json!({"drop_webhooks": 1.5}),
            json!({"duplicate_webhooks": -0.1}),
            json!({"webhook_delay_ms": [9, 5]}),
            json!({"webhook_delay_ms": [1]}),
            json!({"api_error_rate": "often"}),
            json!({"api_error_status": 200}),
            json!({"api_error_status": 70000}),
            json!({"api_delay_ms": -1}),
            json!({"rate_limit_per_minute": null}),
            json!({"truncate_bodies": 2}),
            json!({"empty_list": 1}),
            json!({"retry_base_ms": 1.5}),
            json!({"seed": "x"}),
        ];
        for patch in refused {
            let error = Faults::default().patched(&patch).unwrap_err().to_string();
            let field = patch.as_object().unwrap().keys().next().unwrap();
            assert!(error.contains(&format!("`{field}`")), "{error}");
        }
        let error = Faults::default().patched(&json!([1])).unwrap_err();
        assert_eq!(error, FaultsError::NoObject);
    }
}
