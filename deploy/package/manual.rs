//! Writes the manual pages into a folder, one for each command: `manual FOLDER`.
//!
//! They are made of the same definitions as `--help`, so that they cannot differ from it.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("manual: name the folder to write the pages into");
        return ExitCode::from(2);
    };
    let command = dispatchd::cli::command()
        // Facts of a build, which `--version` has below it, are none of a page.
        .long_version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true);
    let written =
        std::fs::create_dir_all(&folder).and_then(|()| clap_mangen::generate_to(command, &folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: cannot write to {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}
