//! One dispatch of an answer, as far as it could be read (rule R11).
//!
//! Start at [`Reading`]. What could not be read stays as the schedule holds it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Dispatch, DispatchId, Program, Site, SiteId};

/// One dispatch of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// All of it could be read.
    Dispatch(Arc<Dispatch>),
    /// Whether and when it holds could be read, some of the rest could not. That
    /// rest stays as the schedule has it.
    InPart {
        /// What could be read. What could not is empty, or is not there.
        dispatch: Arc<Dispatch>,
        /// What could not.
        unread: UnreadParts,
    },
    /// Whether or when it holds could not be read: it is there, and it stays
    /// wholly as the schedule has it. A new start with an old end could release
    /// sites that neither the old nor the new state of it releases.
    Unreadable {
        /// The id.
        id: DispatchId,
        /// What was wrong, for the operator.
        reason: String,
    },
}

/// The parts of a dispatch that could not be read in one answer, apart from
/// amounts: an amount that cannot be read is an unknown amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnreadParts {
    /// Some site, or the list of sites. Which site is meant is not known.
    pub sites: bool,
    /// The name or location of some site, which is empty here.
    pub names: bool,
    /// Some field of the program, which is absent here.
    pub program: bool,
    /// The creation time, which is absent here.
    pub creation_time: bool,
    /// The metadata, which is empty here.
    pub metadata: bool,
}

impl Reading {
    /// The dispatch's id.
    pub fn id(&self) -> &DispatchId {
        match self {
            Self::Dispatch(dispatch) | Self::InPart { dispatch, .. } => &dispatch.id,
            Self::Unreadable { id, .. } => id,
        }
    }

    /// What could be read. `None` if that says nothing about whether and when
    /// the dispatch holds its sites.
    pub fn dispatch(&self) -> Option<&Arc<Dispatch>> {
        match self {
            Self::Dispatch(dispatch) | Self::InPart { dispatch, .. } => Some(dispatch),
            Self::Unreadable { .. } => None,
        }
    }

    /// Whether it leaves open which sites must curtail, or when. Whoever waits
    /// for the dispatch cannot be told that it was taken over.
    pub fn leaves_open(&self) -> bool {
        match self {
            Self::Dispatch(_) => false,
            Self::InPart { unread, .. } => unread.sites,
            Self::Unreadable { .. } => true,
        }
    }

    /// Whether it is this very dispatch. What was read in part is compared anew
    /// each time.
    pub fn shares(&self, dispatch: &Arc<Dispatch>) -> bool {
        matches!(self, Self::Dispatch(shown) if Arc::ptr_eq(shown, dispatch))
    }

    /// Whether this one counts, and not one of the same dispatch that came before
    /// it in the same list.
    pub fn replaces(&self, first: &Self) -> bool {
        match (first.dispatch(), self.dispatch()) {
            (Some(first), Some(second)) => {
                match (first.modification_number, second.modification_number) {
                    (Some(first), Some(second)) => second >= first,
                    _ => true,
                }
            }
            (Some(_), None) => false,
            (None, _) => true,
        }
    }
}

impl UnreadParts {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// The dispatch that was read as `read`, where the schedule holds `held`:
    /// what could not be read stays as it is held.
    pub fn fill_from(self, read: &Arc<Dispatch>, held: &Arc<Dispatch>) -> Arc<Dispatch> {
        let mut whole = Dispatch::clone(read);
        if self.sites || self.names {
            whole.sites = self.sites_of(read, held);
        }
        if self.program {
            whole.program = with_missing(&read.program, &held.program);
        }
        if self.creation_time {
            whole.creation_time = held.creation_time;
        }
        if self.metadata {
            whole.metadata = held.metadata.clone();
        }
        if whole == **held {
            Arc::clone(held)
        } else {
            Arc::new(whole)
        }
    }

    fn sites_of(self, read: &Dispatch, held: &Dispatch) -> Vec<Arc<Site>> {
        let mut sites: BTreeMap<&SiteId, Arc<Site>> = read
            .sites
            .iter()
            .map(|site| (&site.id, Arc::clone(site)))
            .collect();
        for held in &held.sites {
            match sites.get_mut(&held.id) {
                Some(site) if self.names => keep_names(site, held),
                Some(_) => {}
                None if self.sites => {
                    sites.insert(&held.id, Arc::clone(held));
                }
                None => {}
            }
        }
        sites.into_values().collect()
    }
}

/// A site that is named in another way is found by no controller that goes by
/// its location.
fn keep_names(site: &mut Arc<Site>, held: &Site) {
    let keep_name = site.name.is_empty() && !held.name.is_empty();
    let keep_location =
        site.customer_location_id.is_empty() && !held.customer_location_id.is_empty();
    if keep_name || keep_location {
        let site = Arc::make_mut(site);
        if keep_name {
            site.name.clone_from(&held.name);
        }
        if keep_location {
            site.customer_location_id
                .clone_from(&held.customer_location_id);
        }
    }
}

fn with_missing(read: &Program, held: &Program) -> Program {
    let text =
        |read: &Option<String>, held: &Option<String>| read.as_ref().or(held.as_ref()).cloned();
    Program {
        id: read.id.or(held.id),
        name: text(&read.name, &held.name),
        market: text(&read.market, &held.market),
        program_type: text(&read.program_type, &held.program_type),
        timezone: text(&read.timezone, &held.timezone),
    }
}
