//! The enrolled sites in `/status`, and beside those of dispatches in `/sites`.

use std::iter::Peekable;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::inventory::Inventory;
use crate::model::{SiteState, rfc3339};
use crate::sync::View;

/// How many patterns and vanished sites are listed one by one.
const LISTED: usize = 100;

/// All sites that there are, by id, each once: those of dispatches, and those that are
/// enrolled and that no dispatch names.
pub(super) fn all_sites<'a>(
    view: &'a View,
    inventory: &'a Inventory,
) -> impl Iterator<Item = &'a Arc<SiteState>> {
    Merged {
        named: view.plan.sites().peekable(),
        enrolled: inventory.sites().iter().peekable(),
    }
}

struct Merged<N: Iterator, E: Iterator> {
    named: Peekable<N>,
    enrolled: Peekable<E>,
}

impl<'a, N, E> Iterator for Merged<N, E>
where
    N: Iterator<Item = &'a Arc<SiteState>>,
    E: Iterator<Item = &'a Arc<SiteState>>,
{
    type Item = &'a Arc<SiteState>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(enrolled) = self.enrolled.peek() else {
            return self.named.next();
        };
        let Some(named) = self.named.peek() else {
            return self.enrolled.next();
        };
        if enrolled.id < named.id {
            return self.enrolled.next();
        }
        if enrolled.id == named.id {
            self.enrolled.next();
        }
        self.named.next()
    }
}

/// The inventory as `/status` shows it.
pub(super) fn shown(inventory: &Inventory) -> Value {
    let known = inventory.known.as_ref();
    let site = |site: &SiteState| {
        json!({
            "site": site.id,
            "name": site.name,
            "customer_location_id": site.customer_location_id,
        })
    };
    let compared = known.map(|known| &known.comparison);
    let unrouted = known.map_or_else(Vec::new, |known| {
        let first = known.comparison.first_unrouted.iter();
        first
            .filter_map(|id| known.get(id))
            .map(|one| site(one))
            .collect()
    });
    let unmatched: Vec<Value> = compared
        .map_or(&[][..], |compared| &compared.unmatched)
        .iter()
        .take(LISTED)
        .map(|one| json!({"sink": one.sink, "pattern": one.pattern}))
        .collect();
    let gone = known.map_or(&[][..], |known| &known.vanished);
    let vanished: Vec<Value> = gone
        .iter()
        .take(LISTED)
        .map(|vanished| {
            let mut shown = site(&vanished.site);
            shown["since"] = json!(rfc3339(vanished.since));
            shown
        })
        .collect();
    json!({
        "enrolled_sites": known.map(|known| known.sites.len()),
        "last_look": known.map(|known| rfc3339(known.looked_at)),
        "next_look": inventory.next_look.map(rfc3339),
        "problem": inventory.problem,
        "gap": known.and_then(|known| known.gap.as_deref()),
        "unrouted_sites": compared.map(|compared| compared.unrouted),
        "unrouted": unrouted,
        "unmatched_patterns": compared.map(|compared| compared.unmatched.len()),
        "unmatched": unmatched,
        "vanished_sites": known.map(|_| gone.len()),
        "vanished": vanished,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::testing::inventory;
    use crate::status::testing::{site, view};

    #[test]
    fn each_site_is_there_once_and_that_of_a_dispatch_goes_first() {
        let view = view(["b", "d", "e"].map(|id| site(id, "curtailed")));
        for (enrolled, all) in [
            (&["a", "b", "c", "f"][..], "a-,b+,c-,d+,e+,f-"),
            (&[], "b+,d+,e+"),
            (&["b", "d", "e"], "b+,d+,e+"),
        ] {
            let inventory = inventory(enrolled, &[]);
            let found: Vec<String> = all_sites(&view, &inventory)
                .map(|site| {
                    let mark = if site.is_curtailed() { "+" } else { "-" };
                    format!("{}{mark}", site.id)
                })
                .collect();
            assert_eq!(found.join(","), all);
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let shown = shown(&Inventory {
            problem: Some("no".into()),
            ..Inventory::default()
        });
        assert_eq!(shown["problem"], "no");
        for field in [
            "enrolled_sites",
            "last_look",
            "unrouted_sites",
            "vanished_sites",
        ] {
            assert_eq!(shown[field], Value::Null, "{field}");
        }
    }
}
