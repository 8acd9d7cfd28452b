//! Lists, read one after another. What one has in common with the one before is
//! not read again.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::site::Sites;
use super::{read_object, read_one, unreadable};
use crate::model::{List, Reading};
use crate::voltus::{ApiError, Part, Problems};

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
    dispatches: HashMap<u128, ReadBefore>,
    sites: Sites,
}

/// A dispatch of the last list.
#[derive(Debug, Clone)]
struct ReadBefore {
    reading: Reading,
    /// What of it could not be read. `None` if all could.
    problems: Option<Arc<Problems>>,
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
            let known = self.dispatches.get(&hash).cloned();
            let Some(read) = known.or_else(|| self.read_dispatch(raw)) else {
                nameless += 1;
                problems.push(None, Part::Dispatch, || {
                    format!("dispatch number {} of the list: no usable id", index + 1)
                });
                continue;
            };
            // What is wrong with it is reported with every list.
            if let Some(its) = &read.problems {
                problems.append(its);
            }
            readings.push(read.reading.clone());
            dispatches.insert(hash, read);
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

    /// Reads a dispatch that was not in the last list. `None` when not even its
    /// id can be read.
    fn read_dispatch(&mut self, raw: &RawValue) -> Option<ReadBefore> {
        let mut problems = Problems::default();
        let reading = read_one(raw, &mut self.sites, &mut problems)?;
        Some(ReadBefore {
            reading,
            problems: (!problems.is_empty()).then(|| Arc::new(problems)),
        })
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
        assert_eq!(problems.counts().dispatches, 1);
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
            assert_eq!(problems.counts().total(), 1, "{problems}");
        }
    }
}
