//! Checks where the schedule is kept, and where other daemons of the same database find
//! this one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::{Problem, StatePath};
use crate::secret::{Secret, SecretError};
use crate::store::PostgresTarget;

/// The variable that PostgreSQL's own programs read a password from.
const PASSWORD: &str = "PGPASSWORD";

/// The option that names a file with the password.
pub(super) const PASSWORD_FILE: &str = "--state-password-file";

/// Where the schedule is kept. The password of a database comes from its URL, else from
/// `password_file`, else from the environment.
pub(super) fn check(
    path: &Path,
    password_file: Option<PathBuf>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<StatePath, Problem> {
    if path == Path::new(":memory:") {
        return Ok(StatePath::Memory);
    }
    let text = path.to_str().unwrap_or_default();
    if PostgresTarget::is_meant(text) {
        let unusable = |error: SecretError| Problem::new(PASSWORD_FILE, error.to_string());
        let password = match password_file {
            Some(file) => Some(Secret::from_file(file).map_err(unusable)?),
            None => env(PASSWORD).map(|text| Secret::fixed(text.into())),
        };
        let target = PostgresTarget::parse(text, password);
        let target = target.map_err(|error| Problem::new("--state", error.to_string()))?;
        return Ok(StatePath::Postgres(Box::new(target)));
    }
    // Not repeated: a URL may hold a password.
    if PostgresTarget::is_nearly_meant(text) {
        let problem = "is not the URL of a PostgreSQL database, though it looks like one; write postgres://USER@HOST:PORT/DATABASE";
        return Err(Problem::new("--state", problem));
    }
    if text.contains("://") {
        let problem = "is a URL of something else than PostgreSQL; give the path of a file, or postgres://USER@HOST:PORT/DATABASE";
        return Err(Problem::new("--state", problem));
    }
    if path.is_dir() {
        let problem = format!(
            "{} is a folder; name a file in it, such as {}",
            path.display(),
            path.join("dispatchd.db").display()
        );
        return Err(Problem::new("--state", problem));
    }
    Ok(StatePath::File(path.to_owned()))
}

/// Where other daemons of the same database reach the webhook listener, if that is
/// another address than `listen`.
pub(super) fn advertise(
    url: Option<&str>,
    listen: SocketAddr,
    state: Option<&StatePath>,
) -> Result<Option<Url>, Problem> {
    let problem = |text: &str| Err(Problem::new("--advertise", text.to_owned()));
    let is_shared = matches!(state, Some(StatePath::Postgres(_)));
    let Some(url) = url else {
        if is_shared && listen.ip().is_unspecified() {
            return problem(
                "is needed, as --listen names no address of this machine; give the URL by which the other daemons of the database reach this one's webhook listener, such as http://10.0.0.5:5000",
            );
        }
        return Ok(None);
    };
    let parsed = Url::parse(url).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    match parsed {
        Some(url) if names_no_machine(&url) => problem(
            "names no machine: whoever connects to it reaches themselves; write this machine's name or address, such as http://10.0.0.5:5000",
        ),
        Some(url) => Ok(Some(url)),
        None => problem(
            "is not the URL of a daemon; write scheme, host and port, such as http://10.0.0.5:5000",
        ),
    }
}

/// Whether the host is the address that stands for all addresses of a machine.
fn names_no_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_unspecified(),
        Some(Host::Ipv6(address)) => address.is_unspecified(),
        Some(Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str, password: Option<&str>) -> Result<StatePath, Problem> {
        let env = |name: &str| (name == "PGPASSWORD").then(|| password.map(str::to_owned))?;
        check(Path::new(text), None, &env)
    }

    #[test]
    fn a_database_is_known_by_its_scheme_and_another_url_is_refused_without_its_words() {
        let url = "postgres://me@localhost/power?sslmode=disable";
        assert!(matches!(state(url, Some("x")), Ok(StatePath::Postgres(_))));
        assert!(matches!(state("a/b.db", None), Ok(StatePath::File(_))));
        let wrong = state("mysql://me:s3cret@h/d", None).unwrap_err();
        assert!(wrong.problem.contains("PostgreSQL"), "{}", wrong.problem);
        assert!(!wrong.problem.contains("s3cret"), "{}", wrong.problem);
        for typing_error in ["postgres:/me:s3cret@h/d", "postgress://me:s3cret@h/d"] {
            let wrong = state(typing_error, None).unwrap_err().problem;
            assert!(wrong.contains("postgres://USER@HOST"), "{wrong}");
            assert!(
                !wrong.contains("s3cret") && !wrong.contains(":memory:"),
                "{wrong}"
            );
        }
        let wrong = state("postgres://me:s3cret@h/d?sslmode=prefer", None).unwrap_err();
        assert!(!wrong.problem.contains("s3cret"), "{}", wrong.problem);
    }

    #[test]
    fn a_daemon_that_listens_everywhere_must_say_where_others_find_it() {
        let shared = state("postgres://me@h/d", None).unwrap();
        let everywhere = "0.0.0.0:5000".parse().unwrap();
        let here = "127.0.0.1:5000".parse().unwrap();
        assert!(advertise(None, everywhere, Some(&shared)).is_err());
        assert_eq!(advertise(None, here, Some(&shared)).unwrap(), None);
        assert_eq!(
            advertise(None, everywhere, Some(&StatePath::Memory)).unwrap(),
            None
        );
        let given = advertise(Some("http://10.0.0.5:5000"), everywhere, Some(&shared));
        assert_eq!(given.unwrap().unwrap().as_str(), "http://10.0.0.5:5000/");
        for wrong in [
            "10.0.0.5:5000",
            "http://h/path",
            "ftp://h",
            "http://u:p@h",
            "http://0.0.0.0:5000",
            "https://[::]:5000",
        ] {
            let refused = advertise(Some(wrong), everywhere, Some(&shared));
            assert!(refused.is_err(), "{wrong}");
        }
    }
}
