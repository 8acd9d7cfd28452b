//! The page in all its states, on a screen and a phone, light and dark. With
//! `DISPATCHD_SCREENSHOTS` set to a folder, a picture of each is written there;
//! `tests/screenshots` renews those of the README so:
//!
//! ```sh
//! DISPATCHD_SCREENSHOTS=/tmp/shots cargo test --test browser every_state
//! ```

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dispatchd::sandbox::{Question, RawAnswer};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Manner, Receiver, World, dispatch, in_ms};
use crate::{HOUR, Shown};

const MINUTE: i64 = 60_000;

/// Dispatches as a day brings them, each with some of so many sites.
fn day(sites: usize) -> Vec<Value> {
    const NAMES: [&str; 8] = [
        "Harbour cold store",
        "Mill 3",
        "Waterworks",
        "Hospital north wing",
        "Bayview",
        "Airport terminal B",
        "Steelworks furnace 2",
        "Campus chillers",
    ];
    const PROGRAMS: [&str; 3] = [
        "Capacity market emergency load",
        "Spinning reserve",
        "Peak saver",
    ];
    let site = |n: usize| {
        json!({"id": format!("s{n}"), "name": format!("{} {}", NAMES[n % 8], n / 8 + 1),
            "customer_location_id": format!("L-{n:04}"), "commitment": 12 + (n * 37) % 480})
    };
    let times = [
        (-40 * MINUTE, Some(80 * MINUTE), true),
        (-10 * MINUTE, None, true),
        (2 * HOUR, Some(4 * HOUR), true),
        (-3 * HOUR, Some(-2 * HOUR), true),
        (3 * HOUR, Some(5 * HOUR), false),
    ];
    let parts = times.into_iter().enumerate();
    parts
        .map(|(at, (start, end, authorized))| {
            let mut one = dispatch(&format!("d{at}"), 0, in_ms(start), end.map(in_ms));
            let chosen = (0..sites).filter(|n| (n + at) % 3 != 0 || sites < 5);
            one["sites"] = chosen.map(site).collect();
            one["program"]["name"] = json!(PROGRAMS[at % 3]);
            one["authorized"] = json!(authorized);
            one
        })
        .collect()
}

/// Looks at the page at each size and in each scheme.
async fn look(page: &Shown, state: &str) {
    let folder = std::env::var_os("DISPATCHD_SCREENSHOTS").map(PathBuf::from);
    for (width, height) in [(1400, 900), (390, 844)] {
        for scheme in ["light", "dark"] {
            page.browser.look(width, height, scheme).await;
            page.reload().await;
            page.shows("#where", "sandbox").await;
            page.shows("#sites-count", "site").await;
            let name = format!("{state}-{width}-{scheme}");
            let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(page.browser.run(overflow).await, 0, "{name}");
            let covered = "
                const now = document.getElementById('now-line').getBoundingClientRect();
                return [...document.querySelectorAll('.tick:not(.covered) span')]
                    .map((tick) => tick.getBoundingClientRect())
                    .filter((tick) => now.width + now.height > 0 && tick.left < now.left + 18 && tick.right > now.left - 18).length";
            assert_eq!(
                page.browser.run(covered).await,
                0,
                "{name}: now covers a time"
            );
            if let Some(folder) = &folder {
                let picture = page.browser.picture().await;
                let picture = STANDARD.decode(picture).unwrap();
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
            }
        }
    }
    page.is_at_peace().await;
}

#[apply(test)]
async fn every_state_fits_its_screen() {
    for sites in [0, 3, 200, 2000] {
        let world = World::new().await;
        if sites > 0 {
            day(sites).into_iter().for_each(|one| world.put(one));
        }
        let receiver = Receiver::new().await;
        let page = Shown::open(&world.setup().sink(receiver.sink())).await;
        look(&page, &format!("{sites}-sites")).await;
        if sites == 2000 {
            page.browser.look(1400, 900, "light").await;
            page.reload().await;
            page.shows("#sites-count", "2,000 sites").await;
            let rows = "
                const box = document.getElementById('rows').getBoundingClientRect();
                return [...document.querySelectorAll('#rows .row')]
                    .filter((row) => row.getBoundingClientRect().bottom <= box.bottom + 1).length";
            let rows = page.browser.run(rows).await.as_u64().unwrap();
            assert!(rows > 9, "{rows} rows");
            page.shows("#rows .row[data-index='0']", "kW").await;
        }
    }
}

#[apply(test)]
async fn every_trouble_fits_its_screen() {
    let world = World::new().await;
    day(3).into_iter().for_each(|one| world.put(one));
    let receiver = Receiver::new().await;
    receiver.behave(Manner::Fails);
    let page = Shown::open(&world.setup().polling("1s").sink(receiver.sink())).await;
    page.shows("#told", "3 sites not told").await;
    look(&page, "untold").await;
    world.sandbox.down(true);
    page.shows("#verdict", "Stale since").await;
    page.shows("#link", "Live, but the schedule may be wrong")
        .await;
    look(&page, "stale-and-untold").await;
    receiver.behave(Manner::Takes);
    page.shows("#told", "Every site has been told").await;
    look(&page, "stale").await;
}

#[apply(test)]
async fn every_finding_of_the_inventory_fits_its_screen() {
    let world = World::new().await;
    day(3).into_iter().for_each(|one| world.put(one));
    let enrol = |ids: &[&str]| {
        let sites = ids.iter().map(|id| {
            json!({"id": id, "name": format!("Warehouse <b>{id}</b>"), "customer_location_id": ""})
        });
        let sites: Vec<Value> = sites.collect();
        let body = json!({"sites": sites, "page": 0, "perPage": 0}).to_string();
        let answer = RawAnswer::json(StatusCode::OK, body);
        world.sandbox.override_answer(Question::Sites, Some(answer));
    };
    enrol(&["s0", "s1", "s2"]);
    let sinks = r#"
        [[sink]]
        name = "plant-a"
        to = "stdout"
        sites = ["s*", "store-17*", "x1"]
    "#;
    std::fs::write(world.path("d.toml"), sinks).unwrap();
    let setup = world
        .setup()
        .with("--config", world.path("d.toml").display());
    let page = Shown::open(&setup).await;
    page.shows("#inventory-text", "3 enrolled, asked ").await;
    page.shows("#findings", "2 patterns without a site").await;
    page.shows("#findings", "“store-17*” of plant-a, “x1” of plant-a")
        .await;
    let barns: Vec<String> = (0..12).map(|n| format!("barn-{n:02}")).collect();
    let mut ids: Vec<&str> = barns.iter().map(String::as_str).collect();
    ids.extend(["s0", "s1"]);
    enrol(&ids);
    page.click("#poll-now").await;
    page.shows("#findings", "12 sites without a sink").await;
    page.shows("#findings", "Warehouse <b>barn-00</b> (barn-00), ")
        .await;
    page.shows("#findings", " and 7 more").await;
    page.shows("#findings", "1 site not enrolled any more")
        .await;
    look(&page, "inventory").await;
    page.shows("#findings", "12 sites without a sink").await;
}
