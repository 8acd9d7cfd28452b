//! What the commands share that ask the API.

use super::Failure;
use crate::clock::SystemClock;
use crate::config::{Api, ApiOptions, Origins};
use crate::voltus::{Admin, ApiError, ClientSettings};

/// The longest answer taken by commands that have no option for it.
pub(super) const ANSWER_MAX: u64 = 128 * 1024 * 1024;

/// Checks the options.
pub(super) fn check(options: ApiOptions, origins: &Origins<'_>) -> Result<Api, Failure> {
    Api::check(options, origins).map_err(|error| Failure::Usage(error.to_string()))
}

/// A client for the API at `api`.
pub(super) fn admin(api: Api, max_body: u64) -> Result<Admin<SystemClock>, Failure> {
    let settings = ClientSettings {
        base: api.url,
        version: api.version,
        max_body,
    };
    Admin::new(&settings, api.key, SystemClock::new())
        .map_err(|error| Failure::Runtime(error.to_string()))
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Runtime(error.to_string())
    }
}
