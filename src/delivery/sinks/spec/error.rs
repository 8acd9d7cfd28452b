//! The errors in what the operator wrote after `--sink`.

use thiserror::Error;

/// Why a sink cannot be understood. Each names the sink without its secrets,
/// says what is wrong and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SinkSpecError {
    /// It begins like none of the known forms.
    #[error(
        "sink `{shown}` is of no known kind: write stdout, none, exec:PATH, http://…, https://…, \
         mqtt://host[:port]/prefix or mqtts://host[:port]/prefix"
    )]
    Unknown {
        /// What was written, secrets left out.
        shown: String,
    },
    /// It is not a URL.
    #[error("sink `{shown}` is not a URL ({reason}): write {wanted}")]
    Url {
        /// What was written, secrets left out.
        shown: String,
        /// What the parser said.
        reason: String,
        /// The form that is expected.
        wanted: &'static str,
    },
    /// `batch` has a value that means nothing.
    #[error(
        "sink `{shown}` has a `batch` that is neither true nor false: write batch=true, or leave it out"
    )]
    Batch {
        /// What was written, secrets left out.
        shown: String,
    },
    /// The part below the broker cannot begin topics.
    #[error(
        "sink `{shown}` has no usable topic prefix ({reason}): write mqtt://host[:port]/prefix, such as mqtt://broker/plant7"
    )]
    Prefix {
        /// What was written, secrets left out.
        shown: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `discovery` names what nobody here announces sites to.
    #[error(
        "sink `{shown}` has a `discovery` that is not known: write discovery=homeassistant, or leave it out"
    )]
    Discovery {
        /// What was written, secrets left out.
        shown: String,
    },
    /// A user or password is not text.
    #[error("sink `{shown}` has a user or password that is not UTF-8: percent-encode it as UTF-8")]
    Credentials {
        /// What was written, secrets left out.
        shown: String,
    },
    /// The program cannot be run.
    #[error(
        "sink `exec:{path}` cannot be run ({reason}): give the path of one executable file; \
         arguments are not taken, a script can hold them"
    )]
    Program {
        /// The path as written.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two sinks share a name.
    #[error(
        "sink `{name}` is given twice: leave one out. What differs only in user, password or \
         the values of a query counts as one"
    )]
    Twice {
        /// The name that both have.
        name: String,
    },
}
