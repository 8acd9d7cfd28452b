//! A set of positions, kept as ranges: few, however many positions are in it.

use std::collections::{BTreeMap, BTreeSet};

/// Positions in ranges that neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// The last position of each range, by its first one.
    ends: BTreeMap<u64, u64>,
    /// First positions whose range changed since [`changes`](Self::changes).
    changed: BTreeSet<u64>,
}

impl Ranges {
    /// The ranges as they were stored, by first position.
    pub fn restore(stored: &BTreeMap<u64, u64>) -> Self {
        let mut ranges = Self::default();
        for (first, last) in stored {
            ranges.insert(*first, *last.max(first));
        }
        // What is stored as it stands here need not be stored again.
        let firsts = stored.keys().chain(ranges.ends.keys());
        ranges.changed = firsts
            .filter(|first| ranges.ends.get(first) != stored.get(first))
            .copied()
            .collect();
        ranges
    }

    /// Adds the positions from `first` to `last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let (mut from, mut to) = (first, last);
        if let Some((begin, end)) = self.ends.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            if *end >= last {
                return;
            }
            from = *begin;
        }
        while let Some((begin, end)) = self.ends.range(from..=to.saturating_add(1)).next() {
            let begin = *begin;
            to = to.max(*end);
            self.ends.remove(&begin);
            self.changed.insert(begin);
        }
        self.ends.insert(from, to);
        self.changed.insert(from);
    }

    /// Whether there is no position.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The last position of the range that holds `position`, if one does.
    pub fn end_of(&self, position: u64) -> Option<u64> {
        let (_, end) = self.ends.range(..=position).next_back()?;
        (*end >= position).then_some(*end)
    }

    /// Removes the range that begins at `first`, and gives its last position.
    pub fn take(&mut self, first: u64) -> Option<u64> {
        // The store drops it by itself, as it drops all that precedes.
        self.changed.remove(&first);
        self.ends.remove(&first)
    }

    /// Notes that these ranges, by first position, are not stored as they stand.
    pub fn not_stored(&mut self, firsts: impl IntoIterator<Item = u64>) {
        self.changed.extend(firsts);
    }

    /// Whether some range changed.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The ranges that changed since the last call, by first position; `None`
    /// for those that are no more.
    pub fn changes(&mut self) -> BTreeMap<u64, Option<u64>> {
        std::mem::take(&mut self.changed)
            .into_iter()
            .map(|first| (first, self.ends.get(&first).copied()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(positions: &[u64]) -> Ranges {
        let mut ranges = Ranges::default();
        for position in positions {
            ranges.insert(*position, *position);
        }
        ranges
    }

    #[test]
    fn positions_that_touch_become_one_range() {
        let ranges = of(&[5, 3, 4, 9, 7, 8, 1]);
        assert_eq!(ranges.ends, [(1, 1), (3, 5), (7, 9)].into());
        assert_eq!(ranges.end_of(4), Some(5));
        assert_eq!(ranges.end_of(6), None);
    }

    #[test]
    fn a_range_swallows_what_it_covers() {
        let mut ranges = of(&[2, 5, 9]);
        ranges.insert(3, 8);
        assert_eq!(ranges.ends, [(2, 9)].into());
        ranges.insert(4, 6);
        assert_eq!(ranges.ends, [(2, 9)].into());
    }

    #[test]
    fn only_what_changed_is_stored_again() {
        let mut ranges = of(&[2, 5]);
        assert_eq!(ranges.changes(), [(2, Some(2)), (5, Some(5))].into());
        assert!(!ranges.has_changes());
        ranges.insert(3, 4);
        assert_eq!(ranges.changes(), [(2, Some(5)), (5, None)].into());
        ranges.not_stored([2]);
        assert_eq!(ranges.changes(), [(2, Some(5))].into());
    }

    #[test]
    fn what_is_read_from_the_store_is_merged_and_the_rest_is_dropped_there() {
        let mut ranges = Ranges::restore(&[(2, 2), (3, 3), (8, 9)].into());
        assert_eq!(ranges.ends, [(2, 3), (8, 9)].into());
        assert_eq!(ranges.changes(), [(2, Some(3)), (3, None)].into());
    }

    #[test]
    fn the_last_position_of_all_is_a_position() {
        let mut ranges = of(&[u64::MAX, u64::MAX - 1]);
        assert_eq!(ranges.end_of(u64::MAX), Some(u64::MAX));
        assert_eq!(ranges.take(u64::MAX - 1), Some(u64::MAX));
        assert_eq!(ranges.end_of(u64::MAX), None);
    }
}
