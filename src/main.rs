//! The program: its arguments in, its exit status out. All else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    dispatchd::cli::main(std::env::args_os())
}
