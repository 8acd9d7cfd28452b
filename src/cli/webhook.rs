//! `dispatchd webhook`

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};

use super::output::{line, plain};
use super::{Failure, api, logging, note, runtime};
use crate::clock::SystemClock;
use crate::config::{ApiOptions, FileOption, LogFormat, Origins};
use crate::voltus::{Admin, Webhook, WebhookId, WebhookUrl};

/// The options of `dispatchd webhook`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(super) struct WebhookOptions {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    file: FileOption,

    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists what is registered: id, URL without its secret, events
    List,
    /// Registers a URL for new and changed dispatches, unless it is already
    Register {
        /// The whole URL, with /dispatch-listener and the secret
        #[arg(value_name = "URL")]
        url: SecretString,
    },
    /// Deletes a registration
    Delete {
        /// Its id, as the list shows it
        #[arg(value_name = "ID")]
        id: WebhookId,
    },
}

/// The action, checked.
enum Todo {
    List,
    Register(WebhookUrl),
    Delete(WebhookId),
}

/// Does what is asked, and tells what came of it.
pub(super) fn run(options: WebhookOptions, origins: &Origins<'_>) -> Result<(), Failure> {
    logging::start(LogFormat::Text, "warn")?;
    // Before the API is asked anything.
    let todo = match options.action {
        Action::List => Todo::List,
        Action::Register { url } => Todo::Register(webhook_url(&url)?),
        Action::Delete { id } => Todo::Delete(id),
    };
    let admin = api::admin(api::check(options.api, origins)?, api::ANSWER_MAX)?;
    runtime()?.block_on(async {
        let lines = match todo {
            Todo::List => list(&admin).await,
            Todo::Register(url) => register(&admin, &url).await,
            Todo::Delete(id) => delete(&admin, &id).await,
        }?;
        for text in lines {
            line(&text)?;
        }
        Ok(())
    })
}

async fn list(admin: &Admin<SystemClock>) -> Result<Vec<String>, Failure> {
    let webhooks = admin.webhooks().await?;
    if webhooks.is_empty() {
        note("no webhook is registered");
    }
    let longest = webhooks.iter().map(|webhook| webhook.id.as_str().len());
    let width = longest.max().unwrap_or_default();
    Ok(webhooks
        .iter()
        .map(|webhook| {
            let events = plain(&webhook.events.join(","));
            format!("{:width$}  {}  {events}", webhook.id, shown(webhook))
        })
        .collect())
}

fn shown(webhook: &Webhook) -> String {
    plain(&webhook.url.to_string())
}

async fn register(admin: &Admin<SystemClock>, url: &WebhookUrl) -> Result<Vec<String>, Failure> {
    let same: Vec<Webhook> = admin
        .webhooks()
        .await?
        .into_iter()
        .filter(|webhook| webhook.url.is_same(url))
        .collect();
    if let Some(there) = same.iter().find(|webhook| webhook.is_whole()) {
        return Ok(vec![format!("{}  {url}  is registered already", there.id)]);
    }
    let id = admin.register(url).await?;
    let id = id.map_or_else(|| "?".to_owned(), |id| id.to_string());
    for lacking in &same {
        let events: Vec<&str> = lacking.lacks().collect();
        note(&format!(
            "{} is the same URL without {}; now that there is another: dispatchd webhook delete {}",
            lacking.id,
            events.join(" and "),
            lacking.id
        ));
    }
    Ok(vec![format!("{id}  {url}  registered")])
}

async fn delete(admin: &Admin<SystemClock>, id: &WebhookId) -> Result<Vec<String>, Failure> {
    if admin.delete(id).await? {
        Ok(vec![format!("{id}  deleted")])
    } else {
        Err(Failure::Runtime(format!(
            "no webhook has the id {id}; `dispatchd webhook list` shows those that are registered"
        )))
    }
}

/// What is wrong with it is told without repeating it: it may hold a secret.
fn webhook_url(text: &SecretString) -> Result<WebhookUrl, Failure> {
    let text = text.expose_secret();
    match url::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(WebhookUrl::new(text))
        }
        _ => Err(Failure::Usage(
            "URL: the value is not an http or https URL; write it as https://dispatch.example.com/dispatch-listener".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Running, admin, sandbox};

    fn text(failure: Failure) -> String {
        match failure {
            Failure::Usage(text) | Failure::Runtime(text) | Failure::OnlyPoll(text) => text,
        }
    }

    #[tokio::test]
    async fn a_url_is_registered_once_and_shown_without_its_secret() {
        let sandbox = sandbox().await;
        let daemon = Running::start(&sandbox, &["--webhook-secret", "hush"]).await;
        let admin = admin(&sandbox);
        let url = format!("http://{}/dispatch-listener/hush", daemon.listen);
        let url = webhook_url(&url.into()).unwrap();
        let first = register(&admin, &url).await.unwrap().concat();
        assert!(first.ends_with("<hidden>  registered"), "{first}");
        let again = register(&admin, &url).await.unwrap().concat();
        assert!(
            again.ends_with("<hidden>  is registered already"),
            "{again}"
        );
        let listed = list(&admin).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].ends_with("<hidden>  dispatch.create,dispatch.update"));
        let id = admin.webhooks().await.unwrap()[0].id.clone();
        assert!(delete(&admin, &id).await.is_ok());
        let gone = text(delete(&admin, &id).await.unwrap_err());
        assert!(
            gone.starts_with(&format!("no webhook has the id {id}; ")),
            "{gone}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_repeating_it() {
        for wrong in ["hush", "ftp://a.example/hush", "https:///", ""] {
            let problem = text(webhook_url(&wrong.into()).unwrap_err());
            assert!(!problem.contains("hush"), "{problem}");
        }
    }
}
