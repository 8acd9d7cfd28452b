//! The sites of a dispatch.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::extra::read_with_extra;
use super::{read_text, text_or_number, without_place};
use crate::model::{DispatchId, Kilowatts, Site, SiteId, UnreadParts};
use crate::voltus::{Part, Problems};

/// Sites that were read without fault, by what their bytes hash to. Those of many
/// dispatches are the same.
#[derive(Debug, Default)]
pub(super) struct Sites(HashMap<u128, Arc<Site>>);

impl Sites {
    /// Reads a site, or takes the one that was read before.
    fn read(&mut self, raw: &RawValue) -> Result<ReadSite, String> {
        let hash = xxh3_128(raw.get().as_bytes());
        if let Some(site) = self.0.get(&hash) {
            return Ok(ReadSite::whole(Arc::clone(site)));
        }
        let read = read_site(raw)?;
        if read.faults.is_empty() {
            self.0.insert(hash, Arc::clone(&read.site));
        }
        Ok(read)
    }

    /// Forgets the sites that no dispatch names any more.
    pub fn forget_unused(&mut self) {
        self.0.retain(|_, site| Arc::strong_count(site) > 1);
    }
}

/// A site, and what of it could not be read: which kind of part, which field, and
/// why.
struct ReadSite {
    site: Arc<Site>,
    faults: Vec<(Part, &'static str, String)>,
}

impl ReadSite {
    fn whole(site: Arc<Site>) -> Self {
        let faults = Vec::new();
        Self { site, faults }
    }
}

/// Reads the sites, in the order of their ids, so that another order upstream
/// is no change. One that cannot be read is left out, and that is a doubt; of one
/// named twice the larger commitment counts (rule R11).
pub(super) fn read_sites(
    elements: &[&RawValue],
    known: &mut Sites,
    dispatch: &DispatchId,
    unread: &mut UnreadParts,
    problems: &mut Problems,
) -> Vec<Arc<Site>> {
    let mut sites = Vec::with_capacity(elements.len());
    for (index, raw) in elements.iter().enumerate() {
        match known.read(raw) {
            Ok(ReadSite { site, faults }) => {
                for (part, field, reason) in faults {
                    unread.names |= part == Part::Detail;
                    problems.push(Some(dispatch), part, || {
                        format!("site {}: {field}: {reason}", site.id)
                    });
                }
                sites.push(site);
            }
            Err(reason) => {
                unread.sites = true;
                problems.push(Some(dispatch), Part::Site, || {
                    format!("site number {}: {reason}", index + 1)
                });
            }
        }
    }
    sites.sort_by(|one, other| one.id.cmp(&other.id));
    sites.dedup_by(|later, first| {
        let double = later.id == first.id;
        if double && later.commitment != first.commitment {
            Arc::make_mut(first).commitment = larger(first.commitment, later.commitment);
        }
        double
    });
    sites
}

/// A site as it should be.
#[derive(Deserialize)]
struct SiteWire {
    id: Value,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    customer_location_id: Value,
    #[serde(default)]
    commitment: Option<f64>,
    /// The deprecated twin of `commitment`.
    #[serde(default)]
    drop_by: Option<f64>,
}

/// A site with anything in its fields.
#[derive(Deserialize)]
struct OddSiteWire<'a> {
    id: Value,
    #[serde(default, borrow)]
    name: Option<&'a RawValue>,
    #[serde(default, borrow)]
    customer_location_id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    commitment: Option<&'a RawValue>,
    #[serde(default, borrow)]
    drop_by: Option<&'a RawValue>,
}

/// Reads a site, or says why it cannot be told which site it is.
fn read_site(raw: &RawValue) -> Result<ReadSite, String> {
    let json = raw.get().as_bytes();
    if let Ok((wire, extra)) = read_with_extra::<SiteWire>(json)
        && let Some(name) = text_or_number(wire.name)
        && let Some(location) = text_or_number(wire.customer_location_id)
    {
        return Ok(ReadSite::whole(Arc::new(Site {
            id: site_id(wire.id)?,
            name: name.unwrap_or_default(),
            customer_location_id: location.unwrap_or_default(),
            commitment: wire.commitment.or(wire.drop_by).map(Kilowatts),
            extra,
        })));
    }
    read_odd_site(json)
}

/// Reads what can be read of a site. A `commitment` that cannot be read is
/// unknown, whatever its deprecated twin says.
fn read_odd_site(json: &[u8]) -> Result<ReadSite, String> {
    let (wire, extra) =
        read_with_extra::<OddSiteWire>(json).map_err(|error| without_place(&error))?;
    let mut faults = Vec::new();
    let mut text = |field, raw| {
        let text = read_text(raw);
        text.unwrap_or_else(|reason| {
            faults.push((Part::Detail, field, reason));
            None
        })
        .unwrap_or_default()
    };
    let name = text("name", wire.name);
    let customer_location_id = text("customer_location_id", wire.customer_location_id);
    let amount = match (wire.commitment, wire.drop_by) {
        (Some(raw), _) => Some(("commitment", raw)),
        (None, Some(raw)) => Some(("drop_by", raw)),
        (None, None) => None,
    };
    let commitment = amount.and_then(|(field, raw)| {
        let amount = serde_json::from_str(raw.get());
        amount
            .inspect_err(|error| faults.push((Part::Amount, field, without_place(error))))
            .ok()
    });
    let site = Arc::new(Site {
        id: site_id(wire.id)?,
        name,
        customer_location_id,
        commitment: commitment.map(Kilowatts),
        extra,
    });
    Ok(ReadSite { site, faults })
}

fn site_id(id: Value) -> Result<SiteId, String> {
    let id = text_or_number(id).flatten();
    id.and_then(|id| SiteId::new(&id))
        .ok_or_else(|| "it has no usable id".to_owned())
}

fn larger(a: Option<Kilowatts>, b: Option<Kilowatts>) -> Option<Kilowatts> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b > a { b } else { a }),
        (one, other) => one.or(other),
    }
}
