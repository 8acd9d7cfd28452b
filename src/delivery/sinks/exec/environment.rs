//! What a program learns from its environment.

use std::ffi::OsStr;

/// Whether a variable is the daemon's own and no business of a program: its
/// secrets, and the channels on which the service manager listens to it.
pub(super) fn is_ours(name: &OsStr) -> bool {
    // Names of variables are compared as text; one that is not text is no
    // name of ours.
    let Some(name) = name.to_str() else {
        return false;
    };
    let ours = [
        "VOLTUS_API_KEY",
        "VOLTUS_API_KEY_FILE",
        // The addresses of the other sinks hold passwords.
        "DISPATCHD_SINKS",
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
    ];
    ours.contains(&name)
        || name.starts_with("DISPATCHD_") && (name.contains("SECRET") || name.contains("TOKEN"))
}

/// A text as a variable can hold it. Ids come from elsewhere and may hold any
/// character, but a variable ends at the first NUL.
pub(super) fn value(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_of_ours_is_known_by_its_name() {
        for name in [
            "VOLTUS_API_KEY",
            "VOLTUS_API_KEY_FILE",
            "DISPATCHD_WEBHOOK_SECRET",
            "DISPATCHD_WEBHOOK_SECRET_FILE",
            "DISPATCHD_SINK_SECRET",
            "DISPATCHD_SINK_SECRET_FILE",
            "DISPATCHD_STATUS_TOKEN",
            "DISPATCHD_STATUS_TOKEN_FILE",
            "DISPATCHD_SINKS",
        ] {
            assert!(is_ours(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_program_keeps_its_own_secrets() {
        for name in ["PATH", "MY_TOKEN", "DISPATCHD_STATE", "VOLTUS_API_URL"] {
            assert!(!is_ours(OsStr::new(name)), "{name}");
        }
    }
}
