//! The commands, one file each.

mod api;
mod check;
mod completions;
mod config_file;
mod daemon_client;
mod demo;
mod empty;
mod logging;
mod outbox;
mod output;
mod refusal;
mod report;
mod run;
mod sandbox;
mod scenario;
mod site;
mod state;
mod status;
mod stop;
mod systemd;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod verify;
mod version;
mod webhook;

use std::io::Write;
use std::num::NonZero;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::{Origins, RunOptions};

/// What the exit status of every command means.
const EXIT_STATUS: &str = "\
Exit status: 0 on a clean end, 1 on a failure at run time, 2 on bad usage or
configuration; verify also has 3, see dispatchd verify --help";

/// Keeps the schedule of Voltus demand-response dispatches true: fed by
/// webhooks, healed by polling.
#[derive(Debug, Parser)]
#[command(
    name = "dispatchd",
    version,
    long_version = version::LONG,
    arg_required_else_help = true,
    after_help = EXIT_STATUS
)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// The daemon: takes webhooks, polls, keeps the schedule, commands sites
    #[command(after_help = run::TRACES)]
    Run(Box<RunOptions>),
    /// A local stand-in for the Voltus API, with faults on demand
    Sandbox(sandbox::SandboxOptions),
    /// Asks a running daemon: its health, dispatches not yet over, curtailed sites
    #[command(after_help = status::EXIT_STATUS)]
    Status(status::StatusOptions),
    /// Lists events that sinks have not taken yet, and gives one up
    Outbox(outbox::OutboxOptions),
    /// Curtails a site by hand, or keeps it out of dispatches, for a time
    Site(site::SiteOptions),
    /// Tells what happened around a dispatch, for settlement and disputes
    Report(report::ReportOptions),
    /// Manages the registration of webhooks at Voltus
    Webhook(webhook::WebhookOptions),
    /// Starts an acceptance test on a sandbox, and tells the ids it makes
    Scenario(scenario::ScenarioOptions),
    /// Makes a test dispatch at Voltus, and watches a running daemon get it
    #[command(after_help = verify::EXIT_STATUS)]
    Verify(verify::VerifyOptions),
    /// Verifies configuration, state, API, key, clock and registration; a line each
    Check(Box<RunOptions>),
    /// Carries a whole state over, from a file to PostgreSQL or back
    State(state::StateOptions),
    /// Writes a script that completes options in a shell
    Completions(completions::CompletionsOptions),
    /// Sandbox and daemon in one process: webhooks are lost, the poller heals
    /// that, and the terminal tells it
    Demo(demo::DemoOptions),
}

/// How a command failed.
#[derive(Debug)]
enum Failure {
    /// The operator must change something: exit status 2.
    Usage(String),
    /// Something failed at run time: exit status 1.
    Runtime(String),
    /// `verify` found that only a poll brings dispatches, although a webhook is
    /// registered: exit status 3.
    OnlyPoll(String),
}

/// Runs the command that `args` name, and gives the exit status.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    if let Some(problem) = empty::refusal(command(), &args) {
        say(&problem);
        return ExitCode::from(2);
    }
    let file = config_file::named(command(), &args);
    let mut command = match &file {
        Some(file) => file.with_defaults(command()),
        None => command(),
    };
    let matches = match command.try_get_matches_from_mut(&args) {
        Ok(matches) => matches,
        Err(error) => return refuse(&error, &args),
    };
    let origins = Origins::new(&command, &matches, file.as_ref());
    let outcome = match Cli::from_arg_matches(&matches) {
        Ok(cli) => dispatch(cli.command, &origins.within()),
        Err(error) => return refuse(&error, &args),
    };
    let (message, status) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => (message, 2),
        Err(Failure::Runtime(message)) => (message, 1),
        Err(Failure::OnlyPoll(message)) => (message, 3),
    };
    say(&message);
    ExitCode::from(status)
}

/// All commands with their options, as clap knows them. The manual is made of it.
pub fn command() -> Command {
    Cli::command()
}

fn dispatch(command: Commands, origins: &Origins<'_>) -> Result<(), Failure> {
    match command {
        Commands::Run(options) => run::run(*options, origins),
        Commands::Sandbox(options) => sandbox::run(&options),
        Commands::Status(options) => status::run(options, origins),
        Commands::Outbox(options) => outbox::run(options, origins),
        Commands::Site(options) => site::run(options, origins),
        Commands::Report(options) => report::run(options, origins),
        Commands::Webhook(options) => webhook::run(options, origins),
        Commands::Scenario(options) => scenario::run(options, origins),
        Commands::Verify(options) => verify::run(options, origins),
        Commands::Check(options) => check::run(*options, origins),
        Commands::State(options) => state::run(options),
        Commands::Completions(options) => completions::run(&options),
        Commands::Demo(options) => demo::run(&options),
    }
}

/// Answers a command line that is no command: help and version in full, what is
/// wrong in one line.
fn refuse(error: &clap::Error, args: &[std::ffi::OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is no failure of ours.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            say(&refusal::line(error, &command(), args));
            ExitCode::from(2)
        }
    }
}

/// Writes the one line that tells the operator what is wrong.
fn say(message: &str) {
    // Where it cannot be written, as to a closed terminal, the status says it.
    let _ = writeln!(std::io::stderr(), "dispatchd: {message}");
}

/// Tells what is no failure and no result.
fn note(message: &str) {
    say(message);
}

/// A runtime for the command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        // The engine's thread needs a processor too.
        .worker_threads(processors.saturating_sub(1).max(1))
        // What the engine answers goes before new work: by itself it would wait
        // for dozens of turns of those whose webhooks wait for it.
        .global_queue_interval(1)
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::Runtime(format!(
                "the system gives no threads: {error}; raise the limit of processes (TasksMax, ulimit -u)"
            ))
        })
}
