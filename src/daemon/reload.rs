//! Reads the API key and the secrets again while the daemon runs, and looks whether the
//! configuration file has changed.

use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use tokio::sync::watch;

use super::base::Leads;
use crate::config::{
    Config, ConfigFile, PublicUrl, StatePath, status_token_fits, webhook_secret_fits,
};
use crate::delivery::sinks::SinkSecrets;
use crate::secret::Secret;
use crate::store::PostgresTarget;
use crate::sync::WaiterReply;
use crate::voltus::{ApiKey, WebhookUrl};

/// What can become another while the daemon runs. Copies are about the same
/// daemon.
#[derive(Debug, Clone)]
pub struct Reload {
    files: Arc<Files>,
    leads: watch::Receiver<Option<Leads>>,
}

/// The files that are read again, and who must know what they say.
#[derive(Debug)]
struct Files {
    config: Option<Arc<ConfigFile>>,
    api_key: Arc<ApiKey>,
    webhook_secret: Option<Secret>,
    public_url: Option<(PublicUrl, watch::Sender<WebhookUrl>)>,
    sink_secret: Option<Secret>,
    sinks: SinkSecrets,
    status_token: Option<Secret>,
    /// The database, whose password may come from a file.
    database: Option<Box<PostgresTarget>>,
}

impl Reload {
    /// `wanted` is the URL that is kept registered.
    pub(super) fn new(
        config: &Config,
        wanted: Option<watch::Sender<WebhookUrl>>,
        leads: watch::Receiver<Option<Leads>>,
    ) -> Self {
        let files = Files {
            config: config.file.clone(),
            api_key: Arc::clone(&config.api_key),
            webhook_secret: config.webhook_secret.clone(),
            public_url: config.public_url.clone().zip(wanted),
            sink_secret: config.sink_secret.clone(),
            sinks: config.sink_secrets.clone(),
            status_token: config.status_token.clone(),
            database: match &config.state {
                StatePath::Postgres(target) => Some(target.clone()),
                StatePath::Memory | StatePath::File(_) => None,
            },
        };
        Self {
            files: Arc::new(files),
            leads,
        }
    }

    /// Reads all files again, with a line in the log for each. What cannot be
    /// used changes nothing.
    pub async fn read_files(&self) {
        let files = Arc::clone(&self.files);
        // A disk may take its time.
        let reading = tokio::task::spawn_blocking(move || files.read_again());
        if let Err(error) = reading.await {
            tracing::error!(%error, "the key and the secrets could not be read again");
        }
    }

    /// Asks for a poll, and tells in the log what came of it.
    pub async fn poll(&self) {
        let leads = self.leads.borrow().clone();
        let Some(Leads { inbox, .. }) = leads else {
            tracing::info!("not polled: this daemon stands by");
            return;
        };
        match inbox.poll().await {
            WaiterReply::Applied
            | WaiterReply::Granted
            | WaiterReply::Pending(_)
            | WaiterReply::Skipped(_)
            | WaiterReply::PendingAt(_) => {
                tracing::info!("polled, as was asked for")
            }
            WaiterReply::Unavailable { reason, .. } => {
                tracing::warn!(reason, "the poll that was asked for did not succeed");
            }
            WaiterReply::Busy | WaiterReply::Unknown => {
                tracing::warn!("the poll that was asked for was not made: too many wait already");
            }
        }
    }
}

/// What another value leads to, nothing for the same one, or why it cannot be
/// used.
type Outcome = Result<Option<&'static str>, String>;

impl Files {
    fn read_again(&self) {
        let mut none = self.config.is_none();
        if let Some(file) = &self.config {
            look_at(file);
        }
        let mut tell = |option: &str, file: Option<&Path>, read: &dyn Fn() -> Outcome| {
            let Some(file) = file else { return };
            none = false;
            match read() {
                Ok(Some(effect)) => tracing::info!(
                    "{option} {}: read again; it holds another value now: {effect}",
                    file.display()
                ),
                Ok(None) => {
                    tracing::info!(
                        "{option} {}: read again; it holds the same value",
                        file.display()
                    );
                }
                Err(error) => tracing::error!(
                    "{option} {}: cannot be used, so the value from before stays: {error}; put it right and send SIGHUP again",
                    file.display()
                ),
            }
        };
        let file = |secret: &Option<Secret>| {
            let file = secret.as_ref().and_then(Secret::file);
            file.map(Path::to_owned)
        };
        tell("--api-key-file", self.api_key.file(), &|| self.key());
        let webhook = file(&self.webhook_secret);
        tell("--webhook-secret-file", webhook.as_deref(), &|| {
            replace(self.webhook_secret.as_ref(), |secret, fresh| {
                self.webhook(secret, fresh)
            })
        });
        let sink = file(&self.sink_secret);
        tell("--sink-secret-file", sink.as_deref(), &|| {
            replace(self.sink_secret.as_ref(), |secret, fresh| {
                let replaced = self.sinks.replace(&fresh);
                replaced.map_err(|error| error.to_string())?;
                secret.set(fresh);
                Ok("events are signed with it")
            })
        });
        let token = file(&self.status_token);
        tell("--status-token-file", token.as_deref(), &|| {
            replace(self.status_token.as_ref(), |secret, fresh| {
                status_token_fits(&fresh)?;
                secret.set(fresh);
                Ok("who asks for the status must show it")
            })
        });
        let password = self.database.as_ref();
        let password = password.and_then(|target| target.password_file());
        tell("--state-password-file", password, &|| self.password());
        if none {
            tracing::info!(
                "SIGHUP: nothing to reload; the API key and secrets were not given as files"
            );
        }
    }

    /// Each connection to the database reads it anew, so it may be known already.
    fn password(&self) -> Outcome {
        let Some(database) = &self.database else {
            return Ok(None);
        };
        let changed = database.read_password_again();
        let changed = changed.map_err(|error| error.to_string())?;
        Ok(changed.map(|()| "the next connection to the database uses it"))
    }

    fn key(&self) -> Outcome {
        let changed = self.api_key.reload().map_err(|error| error.to_string())?;
        Ok(changed.then_some("the next request to the API bears it"))
    }

    fn webhook(&self, secret: &Secret, fresh: SecretString) -> Result<&'static str, String> {
        webhook_secret_fits(&fresh)?;
        let Some((public_url, wanted)) = &self.public_url else {
            secret.set(fresh);
            return Ok(
                "webhooks come in there only, so have them sent there: `dispatchd webhook register`",
            );
        };
        let url = public_url
            .with_secret(&fresh)
            .map_err(|problem| problem.to_string())?;
        // The listener must know it before the API asks it.
        secret.set(fresh);
        wanted.send_replace(url);
        Ok("webhooks come in there only, and the registration follows")
    }
}

/// Tells what the configuration file says otherwise than at the start. Nothing of it
/// takes effect before the next start: what sites are told depends on it, and a start
/// compares that with what they were told.
fn look_at(file: &ConfigFile) {
    let now = file.read_again();
    let path = file.path().display();
    let problems = now.problems();
    for problem in &problems {
        tracing::error!(
            "{problem}; the daemon keeps the configuration that it started with, and would not start with this one"
        );
    }
    if !problems.is_empty() {
        return;
    }
    match file.differences(&now) {
        differing if differing.is_empty() => {
            tracing::info!("--config {path}: read again; it says the same");
        }
        differing => tracing::warn!(
            "--config {path}: changed since the start: {}; to use it, verify it with `dispatchd check` and restart dispatchd",
            differing.join(", ")
        ),
    }
}

/// Has `apply` set a secret to what its file says now, if that is another.
fn replace(
    secret: Option<&Secret>,
    apply: impl Fn(&Secret, SecretString) -> Result<&'static str, String>,
) -> Outcome {
    let Some(secret) = secret else {
        return Ok(None);
    };
    let Some(fresh) = secret.read_again().map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    apply(secret, fresh).map(Some)
}
