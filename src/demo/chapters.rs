//! What happens, chapter by chapter. Each goes on although one before it has
//! not shown what it should.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use super::story::{BAKERY, COLD_STORE, Missing, Moment, Story, WATERWORKS, same, since};
use super::{Outcome, words};
use crate::model::DAEMON;

/// Which webhooks are lost.
const ALL: f64 = 1.0;
const NONE: f64 = 0.0;

impl Story<'_> {
    /// Tells all of it.
    pub async fn tell(mut self) -> Outcome {
        self.chapter("1  A webhook brings a dispatch");
        let ended = self.a_webhook().await;
        self.note(ended);
        self.chapter("2  A webhook is lost");
        let ended = self.a_lost_dispatch().await;
        self.note(ended);
        self.chapter("3  The end of a dispatch is lost");
        let ended = self.a_lost_end().await;
        self.note(ended);
        self.chapter("4  A cancellation is lost");
        let ended = self.a_lost_cancellation().await;
        self.note(ended);
        self.chapter("5  Two dispatches want the same site");
        let ended = self.two_at_one_site().await;
        self.note(ended);
        self.chapter("6  The API is down");
        let ended = self.an_outage().await;
        self.note(ended);
        self.chapter("7  The API lists nothing, by mistake");
        let ended = self.an_empty_list().await;
        self.note(ended);
        self.heading("What came of it");
        let ended = self.count().await;
        self.note(ended);
        self.outcome
    }

    async fn a_webhook(&mut self) -> Result<(), Missing> {
        self.faults(&lose(NONE))?;
        self.voltus(
            "dispatch alpha: Bakery and Cold store must curtail now, end unknown; webhook sent",
        );
        let published = self.publish("alpha", TimeDelta::zero(), None, &[BAKERY, COLD_STORE])?;
        let heard = self.heard(published, "dispatch.created", "alpha").await?;
        self.heard(published, "site.curtail", BAKERY.id).await?;
        self.heard(published, "site.curtail", COLD_STORE.id).await?;
        let entry = self.phase("alpha", "active").await?;
        self.holders(BAKERY, &["alpha"]).await?;
        self.holders(COLD_STORE, &["alpha"]).await?;
        // The poller may have been quicker, and that is to be told then.
        let by = entry["discovered_by"].as_str().unwrap_or_default();
        self.seen(&format!(
            "alpha is in the schedule and both sites curtail, {} later, thanks to the {by}",
            words::duration(since(published, heard.at))
        ));
        Ok(())
    }

    async fn a_lost_dispatch(&mut self) -> Result<(), Missing> {
        self.fault("from now on every webhook is lost");
        self.faults(&lose(ALL))?;
        self.voltus("dispatch bravo: Waterworks must curtail in ten minutes; nobody hears of it");
        let published = self.publish("bravo", TimeDelta::minutes(10), None, &[WATERWORKS])?;
        let heard = self.heard(published, "dispatch.created", "bravo").await?;
        self.phase("bravo", "scheduled").await?;
        let site = self.holders(WATERWORKS, &[]).await?;
        same(&site["next"]["dispatch"], &json!("bravo"), || {
            "what Waterworks does next".to_owned()
        })?;
        self.healed(published, &heard, "the poller found bravo")
    }

    async fn a_lost_end(&mut self) -> Result<(), Missing> {
        self.faults(&lose(ALL))?;
        self.voltus("alpha ends now; nobody hears of it");
        let published = self.end("alpha")?;
        let heard = self.heard(published, "dispatch.updated", "alpha").await?;
        self.heard(published, "site.release", BAKERY.id).await?;
        self.heard(published, "site.release", COLD_STORE.id).await?;
        self.phase("alpha", "ended").await?;
        self.holders(BAKERY, &[]).await?;
        self.holders(COLD_STORE, &[]).await?;
        self.healed(
            published,
            &heard,
            "the poller found the end, and both sites are released",
        )
    }

    async fn a_lost_cancellation(&mut self) -> Result<(), Missing> {
        self.faults(&lose(ALL))?;
        self.voltus("bravo is called off before it starts; nobody hears of it");
        let published = self.update("bravo", "authorized", Value::Bool(false))?;
        let heard = self.heard(published, "dispatch.cancelled", "bravo").await?;
        self.phase("bravo", "cancelled").await?;
        let site = self.holders(WATERWORKS, &[]).await?;
        same(&site["next"], &Value::Null, || {
            "what Waterworks does next".to_owned()
        })?;
        let curtailed = self.has_heard(self.start, "site.curtail", WATERWORKS.id);
        same(curtailed, false, || {
            "that Waterworks was curtailed".to_owned()
        })?;
        self.healed(
            published,
            &heard,
            "the poller found it, and Waterworks will not curtail",
        )
    }

    async fn two_at_one_site(&mut self) -> Result<(), Missing> {
        self.faults(&lose(ALL))?;
        self.voltus(
            "dispatches charlie and delta: Bakery must curtail now for each; nobody hears of them",
        );
        let charlie = self.publish("charlie", TimeDelta::zero(), None, &[BAKERY])?;
        let delta = self.publish("delta", TimeDelta::zero(), None, &[BAKERY])?;
        let found = self.heard(charlie, "dispatch.created", "charlie").await?;
        let found_too = self.heard(delta, "dispatch.created", "delta").await?;
        self.heard(charlie, "site.curtail", BAKERY.id).await?;
        self.holders(BAKERY, &["charlie", "delta"]).await?;
        self.healed(charlie, &found, "the poller found charlie")?;
        self.healed(delta, &found_too, "the poller found delta")?;

        self.fault("webhooks arrive again");
        self.faults(&lose(NONE))?;
        self.voltus("charlie ends now; webhook sent");
        let ended = self.end("charlie")?;
        self.heard(ended, "dispatch.ended", "charlie").await?;
        self.heard(ended, "site.adjust", BAKERY.id).await?;
        self.phase("charlie", "ended").await?;
        self.holders(BAKERY, &["delta"]).await?;
        self.seen("charlie has ended, and Bakery stays curtailed: delta still holds it");
        self.voltus("delta ends now; webhook sent");
        self.end("delta")?;
        let released = self.heard(ended, "site.release", BAKERY.id).await?;
        self.holders(BAKERY, &[]).await?;
        same(&released.data["cause"], &json!("delta"), || {
            "what released Bakery".to_owned()
        })?;
        self.seen("Bakery is released, now that the last dispatch has let go");
        Ok(())
    }

    async fn an_outage(&mut self) -> Result<(), Missing> {
        self.faults(&lose(NONE))?;
        let lasts = self.pace.known_end;
        self.voltus(&format!(
            "dispatch echo: Cold store must curtail now, for {}; webhook sent",
            humantime::format_duration(lasts)
        ));
        let echo = self.publish("echo", TimeDelta::zero(), Some(lasts), &[COLD_STORE])?;
        self.heard(echo, "site.curtail", COLD_STORE.id).await?;
        self.fault("the API is down: no request is answered, and webhooks are lost");
        self.faults(&lose(ALL))?;
        self.stage.sandbox().down(true);
        let down = self.moment();
        let outcome = self.blind(down).await;
        // Whatever was seen, the next chapter needs the API.
        self.stage.sandbox().down(false);
        let foxtrot = outcome?;
        self.outage = since(down, self.moment().at.mono);
        self.voltus("the API answers again");
        self.heard(down, "sync.recovered", DAEMON).await?;
        let heard = self.heard(foxtrot, "dispatch.created", "foxtrot").await?;
        self.holders(WATERWORKS, &["foxtrot"]).await?;
        let ready = |status, _: &Value| status == StatusCode::OK;
        self.until("/readyz", "200", ready).await?;
        self.healed(
            foxtrot,
            &heard,
            "the poller recovered by itself and found foxtrot",
        )
    }

    /// What happens while the API is down. Gives the moment at which foxtrot
    /// was published.
    async fn blind(&self, down: Moment) -> Result<Moment, Missing> {
        self.voltus("dispatch foxtrot: Waterworks must curtail now; nobody hears of it");
        let foxtrot = self.publish("foxtrot", TimeDelta::zero(), None, &[WATERWORKS])?;
        self.heard(down, "dispatch.ended", "echo").await?;
        self.heard(down, "site.release", COLD_STORE.id).await?;
        let entry = self.phase("echo", "ended").await?;
        same(&entry["last_changed_by"], &json!("timer"), || {
            "what ended echo".to_owned()
        })?;
        self.holders(COLD_STORE, &[]).await?;
        // Else it may have ended before the API was down.
        let end = words::time(&entry["end_time"]);
        let in_time = end.is_some_and(|end| down.at.wall < end);
        same(in_time, true, || "that the API was down in time".to_owned())?;
        let late = words::time(&entry["last_changed"])
            .zip(end)
            .map(|(ended, end)| (ended - end).to_std().unwrap_or_default());
        let failed = |_, status: &Value| status["sync"]["last_poll"]["ok"] == false;
        self.until("/status", "a poll that failed", failed).await?;
        self.seen(&format!(
            "polls fail, but echo has ended {} after its time, and Cold store is released",
            words::duration(late.unwrap_or_default())
        ));
        self.heard(down, "sync.stale", DAEMON).await?;
        let stale = |_, status: &Value| status["sync"]["state"] == "stale";
        self.until("/status", "sync.state \"stale\"", stale).await?;
        let refuses = |status, _: &Value| status == StatusCode::SERVICE_UNAVAILABLE;
        self.until("/readyz", "503", refuses).await?;
        self.seen("dispatchd says that it is blind: /status says stale, /readyz answers 503");
        Ok(foxtrot)
    }

    async fn an_empty_list(&mut self) -> Result<(), Missing> {
        self.fault("the API answers with an empty list of dispatches");
        self.faults(&json!({"drop_webhooks": NONE, "empty_list": true}))?;
        let empty = self.moment();
        let outcome = self.unmoved(empty).await;
        self.faults(&json!({"empty_list": false}))?;
        outcome?;
        self.fault("the list is right again");
        self.voltus("foxtrot ends now; webhook sent");
        let ended = self.end("foxtrot")?;
        self.heard(ended, "site.release", WATERWORKS.id).await?;
        let curtailed = self.get("/sites?state=curtailed").await?;
        same(&curtailed["sites"], &json!([]), || {
            "what is curtailed".to_owned()
        })?;
        self.seen("Waterworks is released: no site is curtailed any more");
        Ok(())
    }

    /// Waits for two polls, and looks what they have changed.
    async fn unmoved(&self, empty: Moment) -> Result<(), Missing> {
        let sandbox = self.stage.sandbox();
        let asked = |end: &str| -> Vec<DateTime<Utc>> {
            let requests = sandbox.requests().into_iter();
            requests
                .filter(|request| request.at >= empty.at.wall && request.status == Some(200))
                .filter(|request| request.path.ends_with(end))
                .map(|request| request.at)
                .collect()
        };
        let by_id = "/dispatches/foxtrot";
        let waiting = sandbox.wait_until(|_| asked(by_id).len() >= 2);
        let waited = tokio::time::timeout(self.pace.patience, waiting).await;
        same(waited.is_ok(), true, || {
            "that foxtrot was looked up twice".to_owned()
        })?;
        let looked_up = asked(by_id);
        let confirmed = |_, entry: &Value| {
            let confirmed = words::time(&entry["last_confirmed"]);
            confirmed >= looked_up.last().copied()
        };
        self.until("/schedule/foxtrot", "the last look-up", confirmed)
            .await?;
        self.phase("foxtrot", "active").await?;
        self.holders(WATERWORKS, &["foxtrot"]).await?;
        let cancelled = self.has_heard(empty, "dispatch.cancelled", "foxtrot");
        same(cancelled, false, || "that foxtrot was cancelled".to_owned())?;
        self.seen(&format!(
            "{} empty lists later foxtrot is still active: it was looked up by its id, and is there",
            asked("/dispatches").len()
        ));
        Ok(())
    }

    /// Compares what was seen with what the daemon says.
    async fn count(&mut self) -> Result<(), Missing> {
        self.outcome.lost = self.lost();
        let (lost, healed) = (self.outcome.lost, self.outcome.healed.len());
        self.say(&format!(
            "  {lost} webhooks were lost, and the poller healed {healed} of them."
        ));
        if let Some((median, worst)) = self.outcome.delays() {
            self.say(&format!(
                "  Healing took {} in the median and {} at worst, with polls every {} and the API down for {}.",
                words::duration(median),
                words::duration(worst),
                humantime::format_duration(self.pace.poll),
                words::duration(self.outage)
            ));
        }
        same(healed, lost, || "the number of healings".to_owned())?;
        // A poll that happened to outrun a webhook counts there as well.
        let counted = |_, status: &Value| status["sync"]["heals"].as_u64() >= Some(healed as u64);
        self.until("/status", "as many heals", counted).await?;
        Ok(())
    }
}

fn lose(share: f64) -> Value {
    json!({"drop_webhooks": share})
}
