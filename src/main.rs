//! The program: its arguments in, its exit status out. All else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    let program = dispatchd::delivery::sinks::become_program(std::env::args_os());
    program.unwrap_or_else(|| dispatchd::cli::main(std::env::args_os()))
}
