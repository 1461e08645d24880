//! The unsettled events of a partition, by offset.

use std::collections::VecDeque;

use super::partition::Entry;

/// Events come with rising offsets, mostly without gaps, and are mostly settled in the order they came: so they stand
/// in a row, and one is found by its distance from the first.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// In the order of offsets, beginning with an unsettled one; `None` is settled.
    row: VecDeque<(i64, Option<Entry>)>,
    unsettled: usize,
}

/// So many places of settled events are not worth the way over the others.
const SPARE: usize = 64;

impl Entries {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.unsettled
    }

    /// The lowest offset.
    pub(super) fn first(&self) -> Option<i64> {
        self.row.front().map(|(offset, _)| *offset)
    }

    /// Adds an event behind all others.
    pub(super) fn push(&mut self, offset: i64, entry: Entry) {
        debug_assert!(self.row.back().is_none_or(|(last, _)| *last < offset));
        self.row.push_back((offset, Some(entry)));
        self.unsettled += 1;
    }

    pub(super) fn get_mut(&mut self, offset: i64) -> Option<&mut Entry> {
        let at = self.place(offset)?;
        self.row.get_mut(at)?.1.as_mut()
    }

    /// Takes one out, if it is as wanted.
    pub(super) fn remove_if(&mut self, offset: i64, wanted: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        let at = self.place(offset)?;
        let entry = self.row.get_mut(at)?.1.take_if(|entry| wanted(entry))?;
        self.unsettled -= 1;
        while let Some((_, None)) = self.row.front() {
            self.row.pop_front();
        }
        // Behind one that stays for long, what is settled must not pile up.
        if self.row.len() > 2 * self.unsettled + SPARE {
            self.row.retain(|(_, entry)| entry.is_some());
        }
        Some(entry)
    }

    /// All of them, in the order of offsets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Entry)> {
        self.row
            .iter()
            .filter_map(|(offset, entry)| Some((*offset, entry.as_ref()?)))
    }

    /// All of them, in the order of offsets.
    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (i64, &mut Entry)> {
        self.row
            .iter_mut()
            .filter_map(|(offset, entry)| Some((*offset, entry.as_mut()?)))
    }

    fn place(&self, offset: i64) -> Option<usize> {
        let distance = usize::try_from(offset.checked_sub(self.first()?)?).ok()?;
        if self.row.get(distance).is_some_and(|(own, _)| *own == offset) {
            return Some(distance);
        }
        self.row.binary_search_by_key(&offset, |(own, _)| *own).ok()
    }
}

#[cfg(test)]
mod tests {
    use cqi_core::{event::Event, name::topic_name};

    use super::{super::partition::State, *};

    fn entry() -> Entry {
        Entry {
            event: Event::builder(topic_name("t").unwrap()).build().unwrap(),
            key: None,
            attempts: 0,
            state: State::Ready,
        }
    }

    fn settle(entries: &mut Entries, offset: i64) -> bool {
        entries.remove_if(offset, |_| true).is_some()
    }

    fn offsets(entries: &Entries) -> Vec<i64> {
        entries.iter().map(|(offset, _)| offset).collect()
    }

    #[test]
    fn events_are_found_across_gaps_and_settled_in_any_order() {
        let mut entries = Entries::default();
        for offset in [3, 4, 7, 8, 20] {
            entries.push(offset, entry());
        }
        assert!(settle(&mut entries, 7) && !settle(&mut entries, 7));
        assert_eq!((entries.len(), offsets(&entries)), (4, vec![3, 4, 8, 20]));
        for (offset, there) in [
            (2, false),
            (3, true),
            (5, false),
            (7, false),
            (20, true),
            (21, false),
        ] {
            assert_eq!(entries.get_mut(offset).is_some(), there, "{offset}");
        }
        let other = entries.remove_if(3, |entry| entry.attempts > 0);
        assert!(other.is_none() && settle(&mut entries, 3) && settle(&mut entries, 4));
        assert_eq!((entries.first(), offsets(&entries)), (Some(8), vec![8, 20]));
        let back: Vec<_> = entries.iter_mut().rev().map(|(offset, _)| offset).collect();
        assert_eq!(back, [20, 8]);
        assert!(settle(&mut entries, 20) && settle(&mut entries, 8));
        assert_eq!((entries.len(), entries.first()), (0, None));
    }

    #[test]
    fn behind_one_that_stays_nothing_settled_piles_up() {
        let mut entries = Entries::default();
        entries.push(0, entry());
        for offset in 1..10_000 {
            entries.push(offset, entry());
            assert!(settle(&mut entries, offset));
            assert!(entries.row.len() <= 2 + SPARE, "{}", entries.row.len());
        }
        assert_eq!(offsets(&entries), [0]);
    }
}
