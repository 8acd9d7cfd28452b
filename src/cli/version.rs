//! What `dispatchd --version` tells below the version: from which commit and with which
//! tools the program was built. `deploy/package/build_facts.rs` records it.

/// The version, and the facts of the build in a line each. Clap writes the program's
/// name before it.
pub(super) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit:  ",
    env!("BUILD_COMMIT"),
    "\nprofile: ",
    env!("BUILD_PROFILE"),
    "\ntarget:  ",
    env!("BUILD_TARGET"),
    "\nrustc:   ",
    env!("BUILD_RUSTC"),
);
