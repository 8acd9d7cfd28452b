//! The page, in a real browser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this crate is tests: what is not as it must be ends one"
)]

#[macro_use]
extern crate macro_rules_attribute;

#[macro_use]
#[path = "../integration/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "another test needs the rest of the harness"
)]
mod harness;

mod browser;
mod states;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use browser::Browser;
use harness::{Daemon, Receiver, Setup, World, dispatch, in_ms, wait_until};

const HOUR: i64 = 3_600_000;

/// Three browsers at a time: more would slow one another down, and one test is about
/// a second.
static TURNS: Semaphore = Semaphore::const_new(3);

/// A browser that shows the page of a daemon.
struct Shown {
    browser: Browser,
    daemon: Daemon,
    _turn: SemaphorePermit<'static>,
}

impl Shown {
    async fn open(setup: &Setup) -> Self {
        let turn = TURNS.acquire().await.unwrap();
        let browser = Browser::open().await;
        let daemon = setup.ready().await;
        let shown = Self {
            browser,
            daemon,
            _turn: turn,
        };
        shown.reload().await;
        shown
    }

    async fn reload(&self) {
        self.browser.go(&self.daemon.status_url("/")).await;
    }

    async fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.innerText ?? ''");
        self.browser.run(&script).await.as_str().unwrap().to_owned()
    }

    async fn count(&self, selector: &str) -> u64 {
        let script = format!("return document.querySelectorAll({selector:?}).length");
        self.browser.run(&script).await.as_u64().unwrap()
    }

    async fn click(&self, selector: &str) {
        let script = format!("document.querySelector({selector:?}).click()");
        self.browser.run(&script).await;
    }

    async fn shows(&self, selector: &str, words: &str) {
        wait_until(&format!("{selector} shows {words:?}"), async || {
            self.text(selector).await.contains(words)
        })
        .await;
    }

    /// Neither a script nor the policy may have complained.
    async fn is_at_peace(&self) {
        let complaints = self.browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

fn called(id: &str, name: &str, number: usize) -> Value {
    let mut called = dispatch(id, 0, in_ms(-HOUR), Some(in_ms(HOUR)));
    let site = |n| json!({"id": format!("s{n}"), "name": format!("{name} {n}"), "customer_location_id": format!("L{n}"), "commitment": n});
    called["sites"] = (0..number).map(site).collect();
    called
}

#[apply(test)]
async fn it_says_so_when_there_is_nothing() {
    let world = World::new().await;
    let page = Shown::open(&world.setup()).await;
    page.shows("#verdict", "can be trusted").await;
    page.shows("#no-rows", "No site is known yet").await;
    page.shows("#no-dispatches", "No dispatch is known yet")
        .await;
    page.shows("#fact-webhook", "never").await;
    page.shows("#fact-next", "in ").await;
    page.is_at_peace().await;
}

#[apply(test)]
async fn a_change_is_shown_at_once_and_without_a_reload() {
    let world = World::new().await;
    let page = Shown::open(&world.setup()).await;
    page.shows("#link", "Live").await;
    page.browser.run("window.untouched = true").await;
    for (number, phase) in [(0, "active"), (1, "ended"), (2, "cancelled")] {
        let mut next = dispatch("dkmq", number, in_ms(-2 * HOUR), None);
        if phase == "ended" {
            next["end_time"] = json!(in_ms(-HOUR));
        }
        next["authorized"] = json!(phase != "cancelled");
        world.put(next);
        assert_eq!(page.daemon.webhook("dkmq").await.status, 200);
        let seen = page.shows("#dispatches tbody", phase);
        let seen = tokio::time::timeout(Duration::from_secs(2), seen).await;
        assert!(seen.is_ok(), "{phase} took too long");
        assert_eq!(page.count(&format!("#rows .bar.{phase}")).await, 1);
    }
    assert_eq!(page.browser.run("return window.untouched").await, true);
    page.is_at_peace().await;
}

#[apply(test)]
async fn it_says_when_the_schedule_cannot_be_trusted_and_when_it_can_again() {
    let world = World::new().await;
    let mut page = Shown::open(&world.setup().polling("500ms")).await;
    page.shows("#verdict", "can be trusted").await;
    world.sandbox.down(true);
    page.shows("#verdict", "Stale since").await;
    page.shows("#why", "The last poll failed").await;
    page.shows("#fact-poll", "ago").await;
    world.sandbox.down(false);
    page.shows("#verdict", "can be trusted").await;
    page.is_at_peace().await;

    page.daemon.kill();
    page.shows("#verdict", "Not connected").await;
    page.shows("#link", "Disconnected").await;
}

/// The schedule is right, and nobody is told.
#[apply(test)]
async fn a_site_that_was_not_told_turns_the_page_red_and_its_delivery_green_again() {
    let world = World::new().await;
    let address = Receiver::gone();
    let sink = format!("http://{address}/in");
    world.put(called("dkmq", "Bayview", 1));
    let page = Shown::open(&world.setup().sink(&sink)).await;
    page.shows("#verdict", "can be trusted").await;
    let red = page.shows("#told", "1 site not told");
    let red = tokio::time::timeout(Duration::from_secs(15), red).await;
    assert!(red.is_ok(), "after 15 s it is not red");
    page.shows("#told-why", "Bayview 0").await;
    page.shows("#told-why", "refused").await;
    page.shows("#rows .row-label", "not told").await;
    page.shows("#sites tbody", "not told").await;
    assert_eq!(page.count("#on-delivery.first[data-level=error]").await, 1);
    let title = page.browser.run("return document.title").await;
    assert_eq!(title, "⚠ 1 site not told · dispatchd");

    let receiver = Receiver::at(address).await;
    wait_until("it is told", async || !receiver.types_of("s0").is_empty()).await;
    let green = page.shows("#told", "Every site has been told");
    let green = tokio::time::timeout(Duration::from_secs(5), green).await;
    assert!(green.is_ok(), "5 s after the delivery it is still red");
    page.is_at_peace().await;
}

#[apply(test)]
async fn the_focus_returns_to_what_was_opened_and_times_can_be_in_utc() {
    let world = World::new().await;
    world.put(called("dkmq", "Plant", 3));
    let page = Shown::open(&world.setup()).await;
    page.shows("#sites-count", "3 sites").await;
    page.browser
        .run("document.querySelector('#sites .opener').focus()")
        .await;
    page.browser.press("\u{E007}").await;
    page.shows("#detail-title", "Plant 0").await;
    // The table is drawn anew beneath the dialog.
    world.put(called("next", "Plant", 4));
    assert_eq!(page.daemon.webhook("next").await.status, 200);
    page.shows("#sites-count", "4 sites").await;
    page.browser.press("\u{E00C}").await;
    let focused = "return document.activeElement.dataset.id ?? ''";
    wait_until("the focus is back", async || {
        page.browser.run(focused).await == "s0"
    })
    .await;
    page.click("#axis-zone").await;
    page.shows("#axis-zone", "UTC").await;
    page.shows("#zone", "Times are in").await;
    page.is_at_peace().await;
}

#[apply(test)]
async fn two_thousand_sites_are_shown_a_few_at_a_time() {
    let world = World::new().await;
    let page = Shown::open(&world.setup()).await;
    world.put(called("many", "Plant", 2000));
    assert_eq!(page.daemon.webhook("many").await.status, 200);
    page.shows("#sites-count", "2,000 sites").await;
    let rows = page.count("#rows .row").await;
    assert!((5..50).contains(&rows), "{rows} rows");
    assert!(page.count("#sites tbody tr").await <= 25);

    // How long scripts take for twenty frames in each of which everything is drawn anew.
    let drawing = "return (async () => {
        const frame = () => new Promise(requestAnimationFrame);
        const rows = document.getElementById('rows');
        let took = 0;
        for (let n = 1; n <= 20; n++) {
            rows.scrollTop = n * 4000;
            rows.dispatchEvent(new Event('scroll'));
            const drawn = frame();
            await null;
            const began = performance.now();
            await drawn;
            rows.getBoundingClientRect();
            took += performance.now() - began;
        }
        return took;
    })()";
    let took = page.browser.run(drawing).await.as_f64().unwrap();
    assert!(took < 2000.0, "{took} ms");
    page.browser
        .run("document.getElementById('rows').scrollTop = 1e9")
        .await;
    page.shows("#rows", "Plant 1999").await;

    page.browser.run("const search = document.getElementById('search'); search.value = 'l1234'; search.dispatchEvent(new Event('input'))").await;
    page.shows("#sites-count", "1 site found").await;
    assert_eq!(page.count("#rows .row").await, 1);
    page.shows("#rows", "Plant 1234").await;
    page.is_at_peace().await;
}

/// Names come from others.
#[apply(test)]
async fn a_hostile_name_is_shown_as_text() {
    const NAME: &str =
        "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";
    let world = World::new().await;
    let mut hostile = called("dkmq", NAME, 1);
    hostile["program"]["name"] = json!(NAME);
    hostile["metadata"] = json!({NAME: NAME});
    hostile["sites"][0]["id"] = json!(NAME);
    world.put(hostile.clone());
    let page = Shown::open(&world.setup()).await;
    hostile["sites"][0]["name"] = json!(format!("{NAME}!"));
    hostile["modification_number"] = json!(1);
    world.put(hostile);
    assert_eq!(page.daemon.poll().await.status, 200);
    for place in ["#rows .row-name", "#sites tbody", "#dispatches tbody"] {
        page.shows(place, "<script>document.title").await;
    }
    page.click("#dispatches .opener").await;
    page.shows("#detail .history", "onerror").await;
    page.click("#detail .plain-list .opener").await;
    page.shows("#detail-title", NAME).await;
    assert_eq!(page.count("img, main script, dialog script").await, 0);
    assert!(
        page.browser
            .run("return document.title")
            .await
            .as_str()
            .unwrap()
            .contains("active")
    );
    page.is_at_peace().await;
}

#[apply(test)]
async fn one_is_opened_by_keyboard_and_tells_its_history() {
    let world = World::new().await;
    let hour_long = |number, end| dispatch("dkmq", number, in_ms(-HOUR), Some(in_ms(end)));
    world.put(hour_long(0, HOUR));
    let page = Shown::open(&world.setup()).await;
    world.put(hour_long(1, 3 * HOUR));
    assert_eq!(page.daemon.webhook("dkmq").await.status, 200);
    page.shows("#dispatches tbody", "webhook").await;
    page.browser
        .run("document.querySelector('#dispatches .opener').focus()")
        .await;
    page.browser.press("\u{E007}").await;
    page.shows("#detail-title", "Dispatch dkmq").await;
    page.shows("#detail .history", "First seen").await;
    page.shows("#detail .history .changes", "→").await;
    page.browser.press("\u{E00C}").await;
    wait_until("it is closed, and the focus is back", async || {
        page.count("dialog[open]").await == 0 && page.count("#dispatches .opener:focus").await == 1
    })
    .await;
    // The timeline: down chooses a site, Enter opens it.
    page.browser
        .run("document.getElementById('rows').focus()")
        .await;
    page.browser.press("\u{E015}").await;
    page.browser.press("\u{E007}").await;
    page.shows("#detail .history", "dkmq").await;
    page.is_at_peace().await;
}

#[apply(test)]
async fn a_dispatch_has_a_report_of_what_was_told_when() {
    let world = World::new().await;
    world.put(dispatch("dkmq", 0, in_ms(-HOUR), Some(in_ms(HOUR))));
    let page = Shown::open(&world.setup().sink("stdout")).await;
    page.shows("#dispatches tbody", "dkmq").await;
    page.daemon.wait_until_delivered().await;
    for button in ["#dispatches .opener", "#detail .to-report"] {
        page.shows("body", "dkmq").await;
        wait_until("the button is there", async || {
            page.count(button).await == 1
        })
        .await;
        let click = format!("document.querySelector({button:?}).click()");
        page.browser.run(&click).await;
    }
    page.shows("#detail-title", "Report of dispatch dkmq").await;
    page.shows("#detail .report", "site.curtail").await;
    page.shows("#detail .report .verdict", "on time").await;
    page.is_at_peace().await;
}

#[apply(test)]
async fn it_asks_for_the_token_and_then_for_the_data() {
    let world = World::new().await;
    world.put(called("dkmq", "Plant", 3));
    let page = Shown::open(&world.setup().with("--status-token", "t0ken")).await;
    let give = async |token: &str| {
        let script = format!(
            "document.getElementById('token').value = {token:?}; document.querySelector('#token-form button').click()"
        );
        page.browser.run(&script).await;
    };
    page.shows("#ask-token[open]", "wants a token").await;
    give("other").await;
    page.shows("#token-error", "refused").await;
    give("t0ken").await;
    page.shows("#sites-count", "3 sites").await;
    page.shows("#link", "Live").await;
    // This tab remembers it.
    page.reload().await;
    page.shows("#sites-count", "3 sites").await;
    assert_eq!(page.count("#ask-token[open]").await, 0);
}

#[apply(test)]
async fn it_fits_a_phone_and_the_dark() {
    let world = World::new().await;
    world.put(called("dkmq", "A plant with a rather long name", 30));
    let page = Shown::open(&world.setup()).await;
    let mut colours = Vec::new();
    for (width, height, scheme) in [
        (390, 844, "light"),
        (390, 844, "dark"),
        (1280, 800, "light"),
    ] {
        page.browser.look(width, height, scheme).await;
        page.reload().await;
        page.shows("#sites-count", "30 sites").await;
        let overflow =
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(page.browser.run(overflow).await, 0, "{width} {scheme}");
        colours.push(
            page.browser
                .run("return getComputedStyle(document.body).backgroundColor")
                .await,
        );
    }
    assert_eq!(colours[0], colours[2]);
    assert_ne!(colours[0], colours[1]);
    page.is_at_peace().await;
}

fn main() -> std::process::ExitCode {
    harness::main()
}
