//! What a group knows beyond its committed offset, as the text that is committed beside it.
//!
//! Kafka remembers one number per group and partition: everything below is settled. Above it some events are settled
//! too, some have failed attempts behind them, and some shall not come before a moment. These few facts travel in the
//! metadata string of the same commit, so they outlive the process and reach whoever gets the partition next, in one
//! atomic write and without a topic of their own.
//!
//! ```text
//! 1|touched|base|run;run;…     run = gap[,count[,attempts[,not_before]]]
//! ```
//!
//! Offsets from the committed one up to `touched` later ones are settled unless a run lists them. Runs follow each
//! other: `gap` offsets are skipped, `count` (default 1) share `attempts` (default 0) and `not_before` (in tenths of a
//! second after `base`, which is in milliseconds since 1970; default: at once).

use std::{collections::BTreeMap, fmt::Write as _};

/// What is known of one unsettled event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Attempts that count.
    pub(super) attempts: u32,
    /// When it may come again, in milliseconds since 1970; 0 for at once.
    pub(super) not_before: u64,
}

/// Brokers allow 4096 bytes by default (`offset.metadata.max.bytes`).
const MAX: usize = 4000;
/// More events than this are not listed: a few words of another client could else stand for more than there is memory.
const MOST: i64 = 1 << 20;

/// Writes what is known above `low`: from there to `touched`, all is settled but `unsettled`, which is in order. Moments
/// are told from `now` on, and earlier ones are over.
///
/// What does not fit is left out from the end; those events come again with no attempt counted.
pub(super) fn encode(
    low: i64,
    mut touched: i64,
    now: u64,
    unsettled: impl Iterator<Item = (i64, Note)>,
) -> String {
    let mut runs = String::new();
    let (mut end, mut run) = (low, None::<Run>);
    let mut unsettled = unsettled.take_while(|(offset, _)| *offset < touched).peekable();
    while let Some((offset, note)) = unsettled.next() {
        let wait = note.not_before.saturating_sub(now).div_ceil(100);
        let wait = if note.not_before == 0 { None } else { Some(wait) };
        match &mut run {
            Some(run) if run.end() == offset && (run.attempts, run.wait) == (note.attempts, wait) => {
                run.count += 1
            }
            _ => {
                if let Some(run) = run.take() {
                    end = run.write(end, &mut runs);
                }
                run = Some(Run {
                    start: offset,
                    count: 1,
                    attempts: note.attempts,
                    wait,
                });
            }
        }
        if runs.len() > MAX - 200
            && let Some((next, _)) = unsettled.peek()
        {
            touched = *next;
            break;
        }
    }
    if let Some(run) = run {
        run.write(end, &mut runs);
    }
    if runs.is_empty() && touched <= low {
        return runs;
    }
    format!("1|{}|{now}|{runs}", touched - low)
}

struct Run {
    start: i64,
    count: i64,
    attempts: u32,
    wait: Option<u64>,
}

impl Run {
    fn end(&self) -> i64 {
        self.start + self.count
    }

    /// Appends itself after a run that ended at `end`; returns its own end.
    fn write(&self, end: i64, out: &mut String) -> i64 {
        let Self {
            start,
            count,
            attempts,
            ..
        } = self;
        let gap = start - end;
        // Writing to a String does not fail.
        let _ = match (self.wait, attempts, count) {
            (Some(wait), ..) => write!(out, "{gap},{count},{attempts},{wait};"),
            (None, 0, 1) => write!(out, "{gap};"),
            (None, 0, _) => write!(out, "{gap},{count};"),
            (None, ..) => write!(out, "{gap},{count},{attempts};"),
        };
        self.end()
    }
}

/// Reads what [`encode`] wrote: up to which offset it speaks, and what it lists. `None` for any other text, which the
/// broker may hold from another client.
pub(super) fn decode(low: i64, text: &str) -> Option<(i64, BTreeMap<i64, Note>)> {
    let mut parts = text.strip_prefix("1|")?.splitn(3, '|');
    let touched = low.checked_add(parts.next()?.parse().ok().filter(|n| *n >= 0)?)?;
    let base: u64 = parts.next()?.parse().ok()?;
    let (mut notes, mut end, mut room) = (BTreeMap::new(), low, MOST);
    for run in parts.next()?.split_terminator(';') {
        let mut fields = run.split(',');
        let start = end.checked_add(fields.next()?.parse().ok()?)?;
        let count: i64 = fields.next().map_or(Some(1), |count| count.parse().ok())?;
        let attempts = fields.next().map_or(Some(0), |attempts| attempts.parse().ok())?;
        let not_before = match fields.next() {
            Some(wait) => base.checked_add(wait.parse::<u64>().ok()?.checked_mul(100)?)?,
            None => 0,
        };
        end = start.checked_add(count)?;
        room = room.checked_sub(count)?;
        if start < low || count < 1 || end > touched || room < 0 {
            return None;
        }
        notes.extend((start..end).map(|offset| (offset, Note { attempts, not_before })));
    }
    Some((touched, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(attempts: u32, not_before: u64) -> Note {
        Note { attempts, not_before }
    }

    #[test]
    fn what_is_known_survives_the_commit() {
        for (touched, notes) in [
            (107, vec![]),
            (104, vec![(100, note(0, 0)), (101, note(0, 0)), (103, note(2, 0))]),
            (
                140,
                vec![
                    (100, note(1, 1_700_000_000_000)),
                    (101, note(1, 1_700_000_000_000)),
                    (139, note(7, 1_700_000_030_100)),
                ],
            ),
            (101, vec![(100, note(0, 5_000))]),
        ] {
            let earliest = notes.iter().map(|(_, note)| note.not_before).filter(|at| *at > 0);
            let now = earliest.min().unwrap_or_default();
            let text = encode(100, touched, now, notes.iter().copied());
            let (until, read) = decode(100, &text).unwrap();
            assert_eq!(
                (until, read.into_iter().collect::<Vec<_>>()),
                (touched, notes),
                "{text}"
            );
        }
        assert_eq!(encode(100, 100, 0, std::iter::empty()), "");
    }

    #[test]
    fn an_earlier_moment_than_the_first_one_stays_what_it_is() {
        let notes = [(1, note(1, 9_000)), (2, note(1, 4_000)), (3, note(1, 500))];
        let (_, read) = decode(1, &encode(1, 4, 1_000, notes.into_iter())).unwrap();
        let moments: Vec<u64> = read.values().map(|note| note.not_before).collect();
        assert_eq!(moments, [9_000, 4_000, 1_000], "what is over is over now");
    }

    #[test]
    fn too_much_is_cut_at_the_end_and_never_counts_as_settled() {
        // Nothing can be told in fewer words: no two neighbours are alike.
        let notes: Vec<_> = (0..2_000_i64)
            .map(|n| {
                (
                    n * 2,
                    note(u32::try_from(n % 7).unwrap() + 1, 1_000 * n.unsigned_abs()),
                )
            })
            .collect();
        let text = encode(0, 5_000, 0, notes.iter().copied());
        assert!(text.len() <= 4096, "{}", text.len());
        let (touched, read) = decode(0, &text).unwrap();
        assert!(read.len() > 200);
        for (offset, _) in &notes {
            assert!(
                *offset >= touched || read.contains_key(offset),
                "{offset} counts as settled"
            );
        }
    }

    #[test]
    fn metadata_of_other_clients_is_passed_over() {
        for foreign in [
            "",
            "x",
            "NTI=",
            "1|",
            "1|5|0",
            "1|-1|0|",
            "1|2|0|9;",
            "1|2|0|0,-1;",
            "1|2|0|a;",
            "1|9000000000000000000|0|0,9000000000000000000;",
        ] {
            assert_eq!(decode(0, foreign), None, "{foreign}");
        }
    }
}
