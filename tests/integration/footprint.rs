//! How much the daemon takes.

use dispatchd::model::rfc3339;
use serde_json::{Value, json};

use crate::harness::{World, dispatch, in_ms, wait_until};

/// KiB, for a build without optimisation.
const LIMIT: u64 = 100 * 1024;

fn large_dispatch(number: i64) -> Value {
    let id = format!("d{number}");
    let mut large = dispatch(&id, 0, in_ms(3_600_000 + number), Some(in_ms(7_200_000)));
    large["creation_time"] = rfc3339(in_ms(0)).into();
    let sites = (0..20).map(|site| {
        json!({
            "id": format!("s{number}-{site}"),
            "name": format!("Plant {number}, line {site}"),
            "customer_location_id": format!("L-{site}"),
            "commitment": 100 + site,
        })
    });
    large["sites"] = sites.collect();
    large
}

#[apply(test)]
async fn a_thousand_dispatches_of_twenty_sites_fit_into_100_mb() {
    let world = World::new().await;
    for number in 0..1000 {
        world.put(large_dispatch(number));
    }
    let daemon = world.setup().polling("2s").ready().await;
    let schedule = daemon.health().await["schedule"].clone();
    assert_eq!(schedule["scheduled"], 1000);
    daemon.wait_until_delivered().await;
    assert_eq!(daemon.events().len(), 1000);
    let requests = world.sandbox.requests().len();
    // Each poll brings all of them again, and nothing new.
    wait_until("five polls", async || {
        assert!(daemon.memory("VmRSS") < LIMIT);
        world.polls().len() >= 6
    })
    .await;
    let highest = daemon.memory("VmHWM");
    assert!(highest < LIMIT, "{highest} KiB");
    assert_eq!(daemon.revision().await, schedule["revision"]);
    let polls_only = world.sandbox.requests().len() - requests;
    assert!(polls_only <= 6, "{polls_only} requests");
}
