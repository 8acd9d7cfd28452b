//! `dispatchd completions`

use clap::Args;
use clap_complete::Shell;

use super::{Failure, command, output};

/// The options of `dispatchd completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the script that lets a shell complete this program's options.
pub(super) fn run(options: &CompletionsOptions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command(), "dispatchd", &mut script);
    output::write(&String::from_utf8_lossy(&script)).map(drop)
}
