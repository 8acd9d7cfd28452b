//! What a receiver is for, in the simplest words: some sites, and one program or all.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use dispatchd::model::{DispatchId, Event, Extra, Override, Route};

/// The sites and the program that a receiver is for. Dispatches have one of two
/// programs, by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SimulatedRoute {
    /// The sites, one a bit.
    pub sites: u8,
    /// The program, if it is not for all.
    pub program: Option<usize>,
}

impl SimulatedRoute {
    /// For everything.
    pub const EVERYTHING: Self = Self {
        sites: u8::MAX,
        program: None,
    };

    /// As the operator writes it.
    pub fn route(self) -> Route {
        let sites: Vec<String> = match self.sites {
            u8::MAX => Vec::new(),
            // A list that is empty would be one of all.
            0 => vec!["nowhere".to_owned()],
            sites => (0..8)
                .filter(|site| sites & (1 << site) != 0)
                .map(|site| format!("s{site}"))
                .collect(),
        };
        let program = self.program.map(|program| format!("P{program}"));
        let programs: Vec<String> = program.into_iter().collect();
        Route::parse(&sites, &programs, &[]).unwrap_or_default()
    }

    /// Whether it is for this site at all.
    pub fn names(self, site: &str) -> bool {
        let number: Option<u32> = site.strip_prefix('s').and_then(|n| n.parse().ok());
        number.is_some_and(|number| u32::from(self.sites) >> number & 1 == 1)
    }

    /// Whether it is for dispatches with this id.
    pub fn is_for(self, dispatch: &str) -> bool {
        self.program
            .is_none_or(|program| program_of(dispatch) == program)
    }

    /// Whether the site must be curtailed there while these hold it, or an operator
    /// curtails it `by_hand`, which has no program.
    pub fn holds<'d>(
        self,
        site: &str,
        by_hand: bool,
        holders: impl IntoIterator<Item = &'d DispatchId>,
    ) -> bool {
        let mut holders = holders.into_iter();
        self.names(site) && (by_hand || holders.any(|holder| self.is_for(holder.as_str())))
    }

    /// Whether the site must be curtailed there by the word of its newest command.
    pub fn curtails(self, newest: &Event) -> bool {
        #[derive(Deserialize)]
        struct Data {
            dispatches: BTreeSet<DispatchId>,
            #[serde(rename = "override")]
            site_override: Option<Override>,
        }
        let data: Option<Data> = serde_json::from_str(newest.data.get()).ok();
        &*newest.event_type != "site.release"
            && data.is_some_and(|data| {
                let by_hand = data.site_override.is_some_and(|it| it.curtails());
                self.holds(&newest.subject, by_hand, &data.dispatches)
            })
    }

    /// Whether the sites in what a receiver was sent of a dispatch are those of the
    /// dispatch that it is for, and at least one; and whether it was sent the unknown
    /// fields and the metadata of the dispatch, which may name other sites, only if it is
    /// for all sites.
    pub fn shows(self, committed: &Event, sent: &Event) -> bool {
        #[derive(Deserialize)]
        struct Data {
            sites: Vec<Site>,
            #[serde(default)]
            extra: Extra,
            metadata: Value,
        }
        #[derive(Deserialize)]
        struct Site {
            id: String,
        }
        let parts = |event: &Event| -> (Vec<String>, (Extra, Value)) {
            let data: Option<Data> = serde_json::from_str(event.data.get()).ok();
            let (sites, free) = data
                .map(|data| (data.sites, (data.extra, data.metadata)))
                .unwrap_or_default();
            (sites.into_iter().map(|site| site.id).collect(), free)
        };
        let ((committed, its_free), (sent, free)) = (parts(committed), parts(sent));
        let for_all = self.sites == u8::MAX;
        let own: Vec<String> = committed
            .into_iter()
            .filter(|site| self.names(site))
            .collect();
        let may_be_sent = if for_all {
            its_free
        } else {
            (Extra::default(), json!({}))
        };
        own == sent && (!sent.is_empty() || for_all) && free == may_be_sent
    }
}

/// The program of the dispatch with this id.
pub(super) fn program_of(dispatch: &str) -> usize {
    let number: Option<usize> = dispatch.strip_prefix('d').and_then(|n| n.parse().ok());
    number.unwrap_or_default() % 2
}
