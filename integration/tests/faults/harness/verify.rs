//! What must hold between the log of a load and what was read afterwards.

use std::collections::{HashMap, HashSet};

use cqi_testkit::figures::Figures;

use super::log::{Entry, Log, Outcome};

/// What comparing found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Different events that were acknowledged.
    pub(crate) acked: usize,
    /// Different events that were read.
    pub(crate) read: usize,
    /// Acknowledged and not read: key, number and id.
    pub(crate) lost: Vec<String>,
    /// Read more than once, and how often too often in all.
    pub(crate) duplicated: usize,
    /// Refused for sure and read all the same.
    pub(crate) ghosts: Vec<String>,
    /// Read, and never published by anybody.
    pub(crate) strangers: Vec<String>,
    /// Acknowledged events first read after a later one of their key: the key, and the two numbers.
    pub(crate) disorder: Vec<(String, u64, u64)>,
    /// The same for events whose first delivery never arrived, as happens to what is on its way when a connection
    /// breaks: what is seen of them first is a redelivery, which may be overtaken.
    pub(crate) overtaken: usize,
}

impl Findings {
    /// Compares the log with the ids that were read, in their order.
    pub(crate) fn of(log: &Log, read: &[String]) -> Self {
        compare(&log.entries(), read.iter().map(|id| (id, true)))
    }

    /// Compares the log with what was handled: the ids in their order, each with the attempt.
    pub(crate) fn handled(log: &Log, handled: &[(String, u32)]) -> Self {
        compare(
            &log.entries(),
            handled.iter().map(|(id, attempt)| (id, *attempt == 1)),
        )
    }

    /// With these figures.
    pub(crate) fn figures(&self, fault: &'static str, what: &'static str, server: &'static str) -> Figures {
        Figures::new(fault, what, server).counts(self.acked, self.read, self.lost.len(), self.duplicated)
    }

    /// Nothing lost, nothing that was refused or never sent, and each key in order.
    ///
    /// # Panics
    /// With what is broken.
    #[track_caller]
    pub(crate) fn hold(&self) {
        self.hold_without_order();
        assert!(
            self.disorder.is_empty(),
            "out of order: {:?}",
            some(&self.disorder)
        );
    }

    /// As [`Findings::hold`], where the order is not looked at.
    #[track_caller]
    pub(crate) fn hold_without_order(&self) {
        assert!(
            self.lost.is_empty(),
            "{} of {} acknowledged are lost: {:?}",
            self.lost.len(),
            self.acked,
            some(&self.lost)
        );
        assert!(
            self.ghosts.is_empty(),
            "refused, and there: {:?}",
            some(&self.ghosts)
        );
        assert!(
            self.strangers.is_empty(),
            "never published: {:?}",
            some(&self.strangers)
        );
        assert!(self.acked > 0, "nothing was acknowledged: the test shows nothing");
    }
}

fn some<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(5)]
}

/// `read` says of each id whether this is its first delivery.
fn compare<'a>(entries: &HashMap<String, Entry>, read: impl Iterator<Item = (&'a String, bool)>) -> Findings {
    let mut seen = HashSet::new();
    let mut newest: HashMap<&str, u64> = HashMap::new();
    let mut found = Findings::default();
    for (id, first) in read {
        if !seen.insert(id) {
            found.duplicated += 1;
            continue;
        }
        let Some(entry) = entries.get(id) else {
            found.strangers.push(id.clone());
            continue;
        };
        match entry.outcome {
            Outcome::Failed => found.ghosts.push(id.clone()),
            Outcome::Unknown => {}
            Outcome::Ok => {
                let newest = newest.entry(&entry.key).or_insert(entry.number);
                if *newest > entry.number && !first {
                    found.overtaken += 1;
                } else if *newest > entry.number {
                    found.disorder.push((entry.key.clone(), *newest, entry.number));
                }
                *newest = entry.number.max(*newest);
            }
        }
    }
    found.read = seen.len();
    for (id, entry) in entries {
        if entry.outcome == Outcome::Ok {
            found.acked += 1;
            if !seen.contains(id) {
                found.lost.push(format!("{}/{} {id}", entry.key, entry.number));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(&str, &str, u64, Outcome)]) -> HashMap<String, Entry> {
        let entry = |(id, key, number, outcome): &(&str, &str, u64, Outcome)| {
            let (key, number, outcome) = ((*key).to_owned(), *number, *outcome);
            ((*id).to_owned(), Entry { key, number, outcome })
        };
        entries.iter().map(entry).collect()
    }

    fn read(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn each_broken_promise_is_found() {
        let published = log(&[
            ("a", "k", 0, Outcome::Ok),
            ("b", "k", 1, Outcome::Unknown),
            ("c", "k", 2, Outcome::Ok),
            ("d", "l", 0, Outcome::Failed),
        ]);
        let of = |ids: &[&str]| compare(&published, read(ids).iter().map(|id| (id, true)));
        assert_eq!(of(&["a", "c"]), of(&["a", "c"]));
        let whole = of(&["a", "c", "b", "a"]);
        whole.hold();
        assert_eq!((whole.acked, whole.read, whole.duplicated), (2, 3, 1));
        assert_eq!(of(&["a"]).lost, ["k/2 c"]);
        assert_eq!(of(&["a", "c", "d"]).ghosts, ["d"]);
        assert_eq!(of(&["a", "c", "x"]).strangers, ["x"]);
        assert_eq!(of(&["c", "a", "c"]).disorder, [("k".to_owned(), 2, 0)]);
        let again = read(&["c", "a"]);
        let found = compare(&published, again.iter().map(|id| (id, id == "c")));
        assert_eq!((found.disorder.len(), found.overtaken), (0, 1));
    }

    #[test]
    #[should_panic(expected = "1 of 1 acknowledged are lost")]
    fn a_loss_fails() {
        compare(&log(&[("a", "k", 0, Outcome::Ok)]), std::iter::empty()).hold();
    }

    #[test]
    #[should_panic(expected = "shows nothing")]
    fn a_load_of_nothing_fails() {
        compare(&HashMap::new(), std::iter::empty()).hold();
    }
}
