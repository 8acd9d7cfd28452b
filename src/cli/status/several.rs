//! Asks daemons that share a database, and chooses the one that is shown.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::standby::Standing;
use crate::cli::daemon_client::{AskError, DaemonClient};
use crate::cli::output::plain;

/// How long each of several daemons has to answer. What the others say is older by that
/// when it is shown.
const EACH: Duration = Duration::from_secs(3);

/// No daemon answers.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub(super) struct NoAnswer(pub Vec<AskError>);

impl From<AskError> for NoAnswer {
    fn from(error: AskError) -> Self {
        Self(vec![error])
    }
}

/// The daemon that is shown, and what is said of all.
pub(super) struct Found<'a> {
    pub client: &'a DaemonClient,
    pub standing: Standing,
    /// A line for each of several daemons: who leads, who stands by, who is not ready, and
    /// why others do not answer.
    pub lines: String,
    /// The same for programs. Empty if one daemon was asked.
    pub daemons: Vec<Value>,
    /// Why several daemons do not stand in for each other: none leads, two do, or one does
    /// not answer or may not take over.
    pub trouble: Option<String>,
}

impl<'a> Found<'a> {
    /// Asks all daemons at once. The one that leads is shown, else the one whose state is
    /// gravest.
    ///
    /// # Errors
    /// When none answers.
    pub async fn among(clients: &'a [DaemonClient]) -> Result<Self, NoAnswer> {
        let answers = join_all(clients.iter().map(|client| ask(client, clients.len()))).await;
        let mut found: Vec<(&DaemonClient, Standing)> = Vec::new();
        let (mut lines, mut daemons, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let mut not_ready = Vec::new();
        for (client, answer) in clients.iter().zip(answers) {
            let name = client.name();
            match answer {
                Ok(standing) => {
                    let leads = standing.leads();
                    let ready = leads || standing.is_well();
                    lines.push((leads, line(&name, &standing)));
                    daemons.push(json!({
                        "url": name, "leads": leads, "ready": ready, "verdict": standing.text(),
                    }));
                    not_ready.extend((!ready).then_some(name));
                    found.push((client, standing));
                }
                Err(error) => {
                    lines.push((false, error.to_string()));
                    let error_text = error.to_string();
                    daemons.push(json!({
                        "url": name, "leads": false, "ready": false, "error": error_text,
                    }));
                    not_ready.push(name);
                    errors.push(error);
                }
            }
        }
        // Of daemons that fare alike the first one.
        let shown = found.iter().enumerate().rev();
        let shown = shown.max_by_key(|(_, (_, standing))| (standing.leads(), standing.gravity()));
        let Some(shown) = shown.map(|(at, _)| at) else {
            return Err(NoAnswer(errors));
        };
        let leaders = found.iter().filter(|(_, standing)| standing.leads());
        let leaders: BTreeSet<_> = leaders.map(|(_, standing)| standing.identity()).collect();
        let leaders = leaders.len();
        let (client, standing) = found.swap_remove(shown);
        if clients.len() == 1 {
            return Ok(Self {
                client,
                standing,
                lines: String::new(),
                daemons: Vec::new(),
                trouble: None,
            });
        }
        let not_one = match leaders {
            0 => Some("none of these daemons leads".to_owned()),
            1 => None,
            _ => Some(format!(
                "{leaders} of these daemons lead: each has a state of its own, and sites may be commanded twice; \
                 give them the same --state, or stop all but one"
            )),
        };
        lines.sort_by_key(|(leads, _)| !leads);
        let lines = not_one.iter().chain(lines.iter().map(|(_, line)| line));
        let lines = lines.map(|line| format!("{line}\n")).collect();
        let not_ready =
            (!not_ready.is_empty()).then(|| format!("not ready: {}", not_ready.join(", ")));
        let trouble: Vec<String> = not_one.into_iter().chain(not_ready).collect();
        Ok(Self {
            client,
            standing,
            lines,
            daemons,
            trouble: (!trouble.is_empty()).then(|| trouble.join("; ")),
        })
    }
}

/// Asks one of `count` daemons.
async fn ask(client: &DaemonClient, count: usize) -> Result<Standing, AskError> {
    let asked = client.expect::<Standing>(&["status"]);
    if count == 1 {
        return asked.await;
    }
    let answer = timeout(EACH, asked).await;
    answer.unwrap_or_else(|_| Err(client.too_slow(EACH)))
}

/// What is said of one of several daemons.
fn line(name: &str, standing: &Standing) -> String {
    if standing.leads() {
        return format!("{name} leads");
    }
    if standing.is_well() {
        return format!("{name} stands by");
    }
    let text = plain(standing.text());
    match text.strip_prefix("This daemon ") {
        Some(rest) => format!("{name} {rest}"),
        None => format!("{name}: {text}"),
    }
}

#[cfg(test)]
mod tests;
