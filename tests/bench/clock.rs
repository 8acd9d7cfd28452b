//! What time it is.

use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dispatchd::clock::{Clock, SystemClock};

static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::new);

/// UTC, in whole milliseconds.
pub fn now() -> DateTime<Utc> {
    CLOCK.now().wall
}

/// The time since the first question, by a clock that does not jump.
pub fn elapsed() -> Duration {
    CLOCK.now().mono
}

/// Returns once that much has [`elapsed`].
pub async fn sleep_until(elapsed: Duration) {
    CLOCK.sleep_until(elapsed).await;
}
