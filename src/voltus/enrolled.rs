//! Reads the answer to `GET /sites`: the sites that are enrolled under the key.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ApiError;
use crate::model::SiteId;

/// A site that is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledSite {
    /// The upstream's id for it.
    pub id: SiteId,
    /// Its name, empty if none is told.
    pub name: String,
    /// The customer's own name for it, empty if none is told.
    pub customer_location_id: String,
}

/// The sites that are enrolled, as far as the answer tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnrolledSites {
    /// The sites, by id, each once.
    pub sites: Vec<EnrolledSite>,
    /// How many elements of the list could not be read.
    pub unread: usize,
    /// The answer seems to be one page of several. No way to ask for the others is
    /// documented, so there is none here.
    pub is_page: bool,
}

impl EnrolledSites {
    /// Whether a site that is not among them is not enrolled.
    pub fn is_complete(&self) -> bool {
        self.unread == 0 && !self.is_page
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    sites: Vec<&'a RawValue>,
    #[serde(default, rename = "perPage")]
    per_page: Value,
}

#[derive(Deserialize)]
struct Element {
    id: String,
    #[serde(default)]
    name: Value,
    #[serde(default)]
    customer_location_id: Value,
}

/// Reads the sites. An element without an id that can be read is left out and counted.
///
/// # Errors
/// [`ApiError::Unreadable`] when it is no list of sites.
pub fn read_enrolled_sites(body: &[u8]) -> Result<EnrolledSites, ApiError> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| ApiError::Unreadable(error.to_string()))?;
    let listed = answer.sites.len();
    let mut sites = BTreeMap::new();
    let mut unread = 0;
    for element in answer.sites {
        match read(element) {
            Some(site) => {
                sites.insert(site.id.clone(), site);
            }
            None => unread += 1,
        }
    }
    let per_page = answer.per_page.as_u64().unwrap_or_default();
    Ok(EnrolledSites {
        sites: sites.into_values().collect(),
        unread,
        is_page: per_page > 0 && listed as u64 >= per_page,
    })
}

fn read(element: &RawValue) -> Option<EnrolledSite> {
    let element: Element = serde_json::from_str(element.get()).ok()?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    Some(EnrolledSite {
        id: SiteId::new(&element.id)?,
        name: text(element.name),
        customer_location_id: text(element.customer_location_id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> EnrolledSites {
        read_enrolled_sites(body.as_bytes()).unwrap()
    }

    #[test]
    fn sites_are_read_as_the_reference_shows_them() {
        let told = read(
            r#"{"sites": [
                {"id": "lkjh", "name": "Mill", "customer_location_id": "2",
                 "meters": [{"id": "m", "name": "Main", "asset_type": "battery"}]},
                {"id": "asdf", "name": null, "customer_location_id": 17},
                {"id": "lkjh", "name": "Saw mill", "customer_location_id": "2"}
            ], "page": 0, "perPage": 0}"#,
        );
        let sites: Vec<_> = told
            .sites
            .iter()
            .map(|site| (site.id.as_str(), &*site.name, &*site.customer_location_id))
            .collect();
        assert_eq!(sites, [("asdf", "", "17"), ("lkjh", "Saw mill", "2")]);
        assert!(told.is_complete());
    }

    #[test]
    fn an_element_that_cannot_be_read_spoils_no_other() {
        let told = read(r#"{"sites": [5, {"name": "x"}, {"id": ""}, {"id": 7}, {"id": "a"}]}"#);
        assert_eq!(told.sites.len(), 1);
        assert_eq!(told.unread, 4);
        assert!(!told.is_complete());
    }

    #[test]
    fn a_full_page_may_not_be_all() {
        let page = |per_page| format!(r#"{{"sites": [{{"id": "a"}}], "perPage": {per_page}}}"#);
        assert!(read(&page(1)).is_page);
        assert!(!read(&page(2)).is_page);
        assert!(!read(r#"{"sites": [], "perPage": "many"}"#).is_page);
    }

    #[test]
    fn what_is_no_list_of_sites_is_refused() {
        for body in ["", "[]", r#"{"dispatches": []}"#, r#"{"sites": {}}"#] {
            let error = read_enrolled_sites(body.as_bytes()).unwrap_err();
            assert!(matches!(error, ApiError::Unreadable(_)), "{body}");
        }
    }
}
