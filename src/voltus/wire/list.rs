//! Lists, read one after another. What one has in common with the one before is
//! not read again.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::{read_object, read_one, read_site, unreadable};
use crate::engine::{List, Reading};
use crate::model::Site;
use crate::voltus::{ApiError, Problems};

/// The form of a list, and of an answer by id in the webhook tutorial. Page
/// fields are to be ignored: everything comes in one answer.
#[derive(Deserialize)]
pub(super) struct Wrapped<'a> {
    #[serde(borrow)]
    pub dispatches: Vec<&'a RawValue>,
}

/// Reads answers to `GET /dispatches`, and remembers the last by what its bytes
/// hash to: 128 bits, for the whole and for each dispatch and site.
#[derive(Debug, Default)]
pub struct ListReader {
    last: Option<Last>,
    dispatches: HashMap<u128, Reading>,
    sites: Sites,
}

#[derive(Debug)]
struct Last {
    hash: u128,
    list: Arc<List>,
    problems: Problems,
}

impl ListReader {
    /// Reads one answer. What is the same as in the one before is shared with
    /// it: the whole list, or single dispatches.
    ///
    /// # Errors
    /// [`ApiError::Unreadable`] when it is no JSON or has no list of dispatches. A
    /// single bad dispatch is no error: it is a reading, or a problem.
    pub fn read(&mut self, body: &[u8]) -> Result<(Arc<List>, Problems), ApiError> {
        let hash = xxh3_128(body);
        if let Some(last) = self.last.as_ref().filter(|last| last.hash == hash) {
            return Ok((Arc::clone(&last.list), last.problems.clone()));
        }
        let elements = read_object::<Wrapped>(body).map_err(unreadable)?.dispatches;
        let mut problems = Problems::default();
        let mut readings = Vec::with_capacity(elements.len());
        let mut dispatches = HashMap::with_capacity(elements.len());
        let mut nameless = 0;
        for (index, raw) in elements.into_iter().enumerate() {
            let hash = xxh3_128(raw.get().as_bytes());
            if let Some(reading) = self.dispatches.get(&hash) {
                dispatches.insert(hash, reading.clone());
                readings.push(reading.clone());
                continue;
            }
            let before = problems.count();
            match read_one(raw, &mut self.sites, &mut problems) {
                Some(reading) => {
                    // What is wrong with it is to be told with every list.
                    if problems.count() == before {
                        dispatches.insert(hash, reading.clone());
                    }
                    readings.push(reading);
                }
                None => {
                    nameless += 1;
                    problems.push(|| {
                        format!("dispatch number {} of the list: no usable id", index + 1)
                    });
                }
            }
        }
        let list = Arc::new(List::new(readings, nameless));
        self.dispatches = dispatches;
        self.last = Some(Last {
            hash,
            list: Arc::clone(&list),
            problems: problems.clone(),
        });
        self.sites.forget_unused();
        Ok((list, problems))
    }
}

/// Sites that were read, by what their bytes hash to. Those of many dispatches
/// are the same.
#[derive(Debug, Default)]
pub(super) struct Sites(HashMap<u128, Arc<Site>>);

impl Sites {
    /// Reads a site, or takes the one that was read before.
    pub fn read(&mut self, raw: &RawValue) -> Result<Arc<Site>, String> {
        let hash = xxh3_128(raw.get().as_bytes());
        if let Some(site) = self.0.get(&hash) {
            return Ok(Arc::clone(site));
        }
        let site = Arc::new(read_site(raw)?);
        self.0.insert(hash, Arc::clone(&site));
        Ok(site)
    }

    fn forget_unused(&mut self) {
        self.0.retain(|_, site| Arc::strong_count(site) > 1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(dispatches: &[serde_json::Value]) -> String {
        json!({"dispatches": dispatches}).to_string()
    }

    fn dispatch(id: &str) -> serde_json::Value {
        json!({
            "id": id, "authorized": true, "start_time": "2026-11-24T10:00:00Z",
            "sites": [{"id": "s", "name": "Plant", "commitment": 12}],
        })
    }

    fn shown(list: &List, place: usize) -> &Arc<crate::model::Dispatch> {
        let Some(Reading::Dispatch(dispatch)) = list.readings().get(place) else {
            panic!("{list:?}");
        };
        dispatch
    }

    #[test]
    fn the_same_answer_again_is_the_very_same_list() {
        let mut reader = ListReader::default();
        let odd = json!({"id": "odd"});
        let body = body(&[dispatch("a"), odd]);
        let (first, problems) = reader.read(body.as_bytes()).unwrap();
        let (second, again) = reader.read(body.as_bytes()).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(problems.count(), 1);
        assert_eq!(problems, again, "what is wrong is told each time");
    }

    #[test]
    fn what_two_answers_have_in_common_is_shared_wherever_it_stands() {
        let mut reader = ListReader::default();
        let (first, _) = reader
            .read(body(&[dispatch("a"), dispatch("b")]).as_bytes())
            .unwrap();
        assert!(Arc::ptr_eq(
            &shown(&first, 0).sites[0],
            &shown(&first, 1).sites[0]
        ));
        let mut other = dispatch("a");
        other["authorized"] = json!(false);
        let (second, _) = reader
            .read(body(&[dispatch("0"), other, dispatch("b")]).as_bytes())
            .unwrap();
        assert!(Arc::ptr_eq(shown(&first, 1), shown(&second, 2)));
        assert!(!shown(&second, 1).authorized);
        assert!(Arc::ptr_eq(
            &shown(&first, 0).sites[0],
            &shown(&second, 0).sites[0]
        ));
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_forgotten() {
        let mut reader = ListReader::default();
        let good = body(&[dispatch("a")]);
        let (first, _) = reader.read(good.as_bytes()).unwrap();
        reader.read(b"{}").unwrap_err();
        let (second, _) = reader.read(good.as_bytes()).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn what_is_wrong_with_one_dispatch_is_told_with_every_list_that_has_it() {
        let mut reader = ListReader::default();
        let mut half = dispatch("half");
        half["sites"]
            .as_array_mut()
            .unwrap()
            .push(json!({"id": null}));
        for others in [vec![], vec![dispatch("a")]] {
            let list = body(&[&others[..], std::slice::from_ref(&half)].concat());
            let (_, problems) = reader.read(list.as_bytes()).unwrap();
            assert_eq!(problems.count(), 1, "{problems}");
        }
    }
}
