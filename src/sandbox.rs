//! A local stand-in for the Voltus API, with faults on demand.
//!
//! It answers what Voltus documents, under any dated version, and takes
//! orders through [`Sandbox`] or, without a key, from these:
//!
//! | request | does |
//! |---|---|
//! | `GET`, `PUT /control/faults` | shows [`Faults`]; replaces those named |
//! | `GET /control/log` | shows the [`Log`] |
//! | `POST /control/dispatches?notify=false&fill=true` | [`Sandbox::put`]; `notify` is true if left out. With `fill` the fields that Voltus's reference requires are added where they are missing |
//! | `DELETE /control/dispatches/{id}` | [`Sandbox::remove`] |
//!
//! Read on in `gate` (what every request passes), `routes` (the paths) and
//! `deliveries` (webhooks).

mod acceptance;
mod answer;
mod budget;
mod deliveries;
mod dice;
mod error;
mod faults;
mod fixture;
mod gate;
mod log;
mod routes;
mod scenarios;
mod state;
mod telemetry;
mod test_dispatch;
#[cfg(test)]
mod tests;
mod webhooks;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use acceptance::{Acceptance, SiteSpec, UnknownAcceptance, acceptance};
pub use answer::{Ending, Question, RawAnswer};
pub use error::{PutError, RunError, ScenarioError, StartError};
pub use faults::{Faults, FaultsError};
pub use log::{ContactEmail, Delivery, Log, Outcome, SeenRequest};
pub use webhooks::{Event, Webhook};

use crate::clock::{Clock, SystemClock};
use crate::http::{self, Bounds};
use crate::model::DispatchId;
use fixture::Fixture;
use state::State;

/// The header that carries the key.
const KEY_HEADER: &str = "x-voltus-api-key";

/// The version under which webhooks are registered that name none.
const VERSION: &str = "2022-04-15";

/// How long a webhook's receiver may take to answer.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How a sandbox starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// The only key that it takes.
    pub api_key: SecretString,
    /// Whether it shows the public sandbox's fixture dispatch `asdf` until a
    /// dispatch is put or a scenario is started.
    pub fixture: bool,
    /// Whether the fixture's times move with every request, as they do at the
    /// public sandbox. They stay otherwise, so that polls find no changes.
    pub moving_fixture: bool,
    /// Where all chances come from. `None` draws a seed; [`Sandbox::faults`]
    /// shows it.
    pub seed: Option<u64>,
    /// [`Faults::drop_webhooks`] at the start.
    pub drop_webhooks: f64,
    /// [`Faults::wrap_by_id`] at the start.
    pub wrap_by_id: bool,
    /// [`Faults::rate_limit_per_minute`] at the start.
    pub rate_limit_per_minute: u32,
}

impl Default for Options {
    fn default() -> Self {
        let faults = Faults::default();
        Self {
            api_key: "secret".into(),
            fixture: true,
            moving_fixture: false,
            seed: None,
            drop_webhooks: faults.drop_webhooks,
            wrap_by_id: faults.wrap_by_id,
            rate_limit_per_minute: faults.rate_limit_per_minute,
        }
    }
}

/// Runs a sandbox until `stop`, for those who need no handle of it.
///
/// # Errors
/// [`RunError`].
pub async fn run(
    options: Options,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let sandbox = Sandbox::start(options, listener, stop.clone())?;
    let seed = sandbox.faults().seed;
    tracing::info!(url = %sandbox.url(), seed, "the sandbox listens");
    sandbox.stopped().await;
    stop.is_cancelled().then_some(()).ok_or(RunError::Ended)
}

/// A running sandbox. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Sandbox(Arc<Inner>);

/// What all its parts share.
#[derive(Debug)]
struct Inner {
    addr: SocketAddr,
    api_key: SecretString,
    clock: SystemClock,
    http: reqwest::Client,
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    state: Mutex<State>,
    /// Told whenever the state has changed.
    changed: watch::Sender<()>,
}

impl Inner {
    /// Changes the state.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        result
    }

    /// Reads the state.
    fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a task until it ends or the sandbox does.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.stop.clone().run_until_cancelled_owned(task);
        self.tasks.spawn_on(task, &self.runtime);
    }
}

impl Sandbox {
    /// Starts a sandbox on a listener that is bound, so that a test can take
    /// port 0. It ends at `stop`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        options: Options,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let faults = Faults {
            seed: options.seed.unwrap_or_else(dice::draw_seed),
            drop_webhooks: options.drop_webhooks,
            wrap_by_id: options.wrap_by_id,
            rate_limit_per_minute: options.rate_limit_per_minute,
            ..Faults::default()
        };
        faults.check()?;
        let clock = SystemClock::new();
        let fixture = options.fixture.then(|| {
            if options.moving_fixture {
                Fixture::moving()
            } else {
                Fixture::Still(clock.now().wall)
            }
        });
        let inner = Arc::new(Inner {
            addr: listener.local_addr().map_err(StartError::Listener)?,
            api_key: options.api_key,
            clock,
            http: http::client_builder()
                .no_proxy()
                .timeout(DELIVERY_TIMEOUT)
                .build()
                .map_err(StartError::Client)?,
            runtime: Handle::try_current().map_err(StartError::Runtime)?,
            tasks: TaskTracker::new(),
            stop: stop.child_token(),
            state: Mutex::new(State::new(faults, fixture)),
            changed: watch::Sender::new(()),
        });
        let service = gate::service(Arc::clone(&inner));
        let stop = inner.stop.clone();
        inner.tasks.spawn(async move {
            // Should serving ever end by itself, nothing else goes on without it.
            let _stops_the_rest = stop.clone().drop_guard();
            http::serve(listener, service, Bounds::default(), stop).await;
        });
        Ok(Self(inner))
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// Its address as the base of an API, `http://ip:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.addr)
    }

    /// Tells this sandbox alone to end.
    pub fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Returns once it was told to end, or stopped serving by itself, and its
    /// last task has ended.
    pub async fn stopped(&self) {
        self.0.stop.cancelled().await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Inserts or replaces a dispatch under its `id`, as it is, and returns
    /// the id. With `notify`, webhooks get `dispatch.create` or
    /// `dispatch.update`.
    ///
    /// # Errors
    /// [`PutError`] when it has no usable id.
    pub fn put(&self, dispatch: Value, notify: bool) -> Result<String, PutError> {
        let id = dispatch["id"].as_str().ok_or(PutError::Id)?;
        let id = DispatchId::new(id).map_err(|_| PutError::Id)?.to_string();
        self.0.with(|state| {
            let event = state.put(&id, dispatch, false);
            if notify {
                deliveries::announce(&self.0, state, &id, event);
            }
        });
        Ok(id)
    }

    /// The dispatch with every field that Voltus's reference requires: those
    /// that it lacks are added. What is no object with an id stays as it is.
    fn completed(&self, dispatch: Value) -> Value {
        let now = self.0.clock.now().wall;
        match (dispatch["id"].as_str().map(str::to_owned), dispatch) {
            (Some(id), Value::Object(fields)) => {
                self.0.look(|state| state.completed(&id, fields, now))
            }
            (_, other) => other,
        }
    }

    /// A dispatch as `GET /dispatches/{id}` would show it, unwrapped.
    pub fn get(&self, id: &str) -> Option<Value> {
        let now = self.0.clock.now().wall;
        let dispatch = self.0.look(|state| state.dispatch(id, now));
        dispatch.map(Arc::unwrap_or_clone)
    }

    /// Takes a dispatch away without a word. `false` if there was none.
    pub fn remove(&self, id: &str) -> bool {
        self.0.with(|state| state.remove(id))
    }

    /// Leaves a dispatch out of the list, or not; by its id it always
    /// answers. `false` if there is none.
    pub fn hide_from_list(&self, id: &str, hidden: bool) -> bool {
        self.0.with(|state| state.hide(id, hidden))
    }

    /// Starts a scenario, given as the body of a `POST /scenarios`, and
    /// returns the id of each of its dispatches by name.
    ///
    /// # Errors
    /// [`ScenarioError`].
    pub fn scenario(&self, request: Value) -> Result<BTreeMap<String, String>, ScenarioError> {
        let scenario =
            serde_json::from_value(request).map_err(|error| ScenarioError(error.to_string()))?;
        scenarios::start(&self.0, scenario).map_err(|refusal| ScenarioError(refusal.message))
    }

    /// The faults at present.
    pub fn faults(&self) -> Faults {
        self.0.look(|state| state.faults.clone())
    }

    /// Replaces all faults. Another seed than the present one starts the
    /// chances again.
    ///
    /// # Errors
    /// [`FaultsError::Range`].
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultsError> {
        faults.check()?;
        self.0.with(|state| {
            let reseed = state.faults.seed != faults.seed;
            state.set_faults(faults, reseed);
        });
        Ok(())
    }

    /// Replaces the faults that `patch` names, a JSON object as for
    /// `PUT /control/faults`, and returns all. A `seed` in it starts the
    /// chances again.
    ///
    /// # Errors
    /// [`FaultsError`] that names the field at fault.
    pub fn change_faults(&self, patch: &Value) -> Result<Faults, FaultsError> {
        self.0.with(|state| {
            let faults = state.faults.patched(patch)?;
            state.set_faults(faults.clone(), patch.get("seed").is_some());
            Ok(faults)
        })
    }

    /// Whether API requests go without an answer: the connection closes.
    pub fn down(&self, down: bool) {
        self.0.with(|state| state.down = down);
    }

    /// Puts in an answer to a question in place of the API's own. `None`
    /// takes it out again.
    pub fn override_answer(&self, question: Question, answer: Option<RawAnswer>) {
        self.0.with(|state| match answer {
            Some(answer) => state.overrides.insert(question, answer),
            None => state.overrides.remove(&question),
        });
    }

    /// Registers a webhook for all events without asking its URL first.
    pub fn add_webhook(&self, url: impl Into<String>) -> Webhook {
        self.0.with(|state| {
            let webhook = Webhook {
                id: state.dice.id(),
                url: url.into(),
                events: vec![Event::Create, Event::Update],
                version: VERSION.to_owned(),
            };
            state.webhooks.push(webhook.clone());
            webhook
        })
    }

    /// The webhooks registered, oldest first.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.0.look(|state| state.webhooks.clone())
    }

    /// Sends an event about a dispatch, known or not, to every webhook that
    /// wants it. It is neither lost, copied nor delayed; it is resent if need
    /// be.
    pub fn webhook_now(&self, id: &str, event: Event) {
        self.0
            .with(|state| deliveries::announce_safely(&self.0, state, id, event));
    }

    /// What came of webhooks, oldest first: the last 100,000 deliveries and
    /// contact emails.
    pub fn log(&self) -> Log {
        self.0.look(|state| Log {
            deliveries: state.deliveries.to_vec(),
            contact_emails: state.contact_emails.to_vec(),
        })
    }

    /// The last 100,000 requests to the API, oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.0.look(|state| state.requests.to_vec())
    }

    /// Waits until `condition` holds, looking again whenever something has
    /// happened in the sandbox. `false` if the sandbox ends first.
    pub async fn wait_until(&self, condition: impl Fn(&Self) -> bool) -> bool {
        let mut changed = self.0.changed.subscribe();
        loop {
            if condition(self) {
                return true;
            }
            tokio::select! {
                // The sender lives in `self`.
                _ = changed.changed() => {}
                () = self.0.stop.cancelled() => return condition(self),
            }
        }
    }
}
