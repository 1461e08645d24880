use cqi_core::name::topic_name;

use super::*;

const STEP: Duration = Duration::from_secs(10);

struct Case {
    ledger: Ledger,
    clock: Clock,
}

impl Case {
    /// A ledger that owns partition 0 at offset 0.
    fn new() -> Self {
        let mut case = Self {
            ledger: Ledger::default(),
            clock: Clock::now(),
        };
        case.ledger.own(0, 0, "");
        case
    }

    fn insert(&mut self, offset: i64, key: Option<&str>) {
        let mut event = Event::builder(topic_name("t").unwrap()).payload(offset.to_string());
        if let Some(key) = key {
            event = event.key(key);
        }
        self.ledger
            .insert(0, offset, event.build().unwrap(), || self.clock);
    }

    fn later(&mut self, time: Duration) {
        self.clock.now += time;
        self.clock.millis += u64::try_from(time.as_millis()).unwrap();
        self.ledger.return_due(self.clock.now);
    }

    fn take(&mut self) -> Option<(String, u32, Claim)> {
        let (event, attempt, claim) = self.ledger.take(self.clock.now, STEP)?;
        Some((
            String::from_utf8(event.payload().to_vec()).unwrap(),
            attempt,
            claim,
        ))
    }

    fn all(&mut self) -> Vec<(String, u32, Claim)> {
        std::iter::from_fn(|| self.take()).collect()
    }

    fn seen(&mut self) -> Vec<(String, u32)> {
        self.all()
            .into_iter()
            .map(|(text, attempt, _)| (text, attempt))
            .collect()
    }

    fn ack(&mut self, claim: Claim) -> Result<bool, Lost> {
        self.ledger.ack(claim, || self.clock.now)
    }

    fn nack(&mut self, claim: Claim, how: Redelivery) {
        self.ledger.nack(claim, how, self.clock.now).unwrap();
    }

    fn committed(&mut self) -> (i64, String) {
        let all = self.ledger.positions(Some(&[0]), self.clock);
        (all[0].offset, all[0].notes.clone())
    }

    /// As another member sees it that gets the partition now.
    fn handed_over(&mut self) -> Self {
        let (offset, notes) = self.committed();
        let mut other = Self::new();
        other.clock = self.clock;
        other.ledger.own(0, offset, &notes);
        other
    }
}

fn claims(all: &[(String, u32, Claim)]) -> Vec<Claim> {
    all.iter().map(|(_, _, claim)| *claim).collect()
}

fn text(text: &str, attempt: u32) -> (String, u32) {
    (text.to_owned(), attempt)
}

#[test]
fn ml_msg_7_only_what_is_settled_without_a_gap_is_committed() {
    let mut case = Case::new();
    (0..4).for_each(|offset| case.insert(offset, None));
    let out = claims(&case.all());
    assert_eq!(case.committed().0, 0);
    case.ack(out[1]).unwrap();
    case.ack(out[2]).unwrap();
    assert_eq!(case.committed().0, 0, "event 0 is out");
    case.ack(out[0]).unwrap();
    assert_eq!(case.committed().0, 3);
    case.ack(out[3]).unwrap();
    assert_eq!(case.committed(), (4, String::new()));
    assert_eq!((case.ledger.held(), case.ledger.held_bytes()), (0, 0));
}

#[test]
fn of_handled_events_some_are_kept_for_their_memory_and_no_large_ones() {
    let mut case = Case::new();
    let handle = |case: &mut Case, offsets: std::ops::Range<i64>| {
        offsets.for_each(|offset| {
            case.insert(offset, None);
            let claim = case.take().unwrap().2;
            case.ack(claim).unwrap();
        });
    };
    handle(&mut case, 0..1000);
    let mut spent = Vec::new();
    case.ledger.give_spent(&mut spent);
    assert_eq!((spent.len(), case.ledger.spent.len()), (SPENT, 0));
    handle(&mut case, 1000..1002);
    case.ledger.give_spent(&mut spent);
    assert_eq!(
        (spent.len(), case.ledger.spent.len()),
        (SPENT, 2),
        "there were some left"
    );
    let large = Event::builder(topic_name("t").unwrap()).payload(vec![0; SPENT_BYTES]);
    case.ledger.insert(0, 1002, large.build().unwrap(), || case.clock);
    let claim = case.take().unwrap().2;
    case.ack(claim).unwrap();
    assert_eq!(case.ledger.spent.len(), 2);
}

#[test]
fn offsets_that_are_missing_from_the_log_hold_nothing_up() {
    let mut case = Case::new();
    [5, 9].into_iter().for_each(|offset| case.insert(offset, None));
    let out = claims(&case.all());
    case.ack(out[0]).unwrap();
    assert_eq!(case.committed().0, 9);
}

#[test]
fn bus_18_what_was_settled_failed_or_delayed_is_known_to_the_next_owner() {
    let mut case = Case::new();
    (0..6).for_each(|offset| case.insert(offset, None));
    let out = claims(&case.all());
    case.ack(out[1]).unwrap();
    case.nack(out[2], Redelivery::After(Duration::ZERO));
    case.nack(out[3], Redelivery::After(STEP * 6));
    case.nack(out[4], Redelivery::Release);
    // 0 and 5 are out when the partition moves; 6 was never seen.
    let mut other = case.handed_over();
    (0..7).for_each(|offset| other.insert(offset, None));
    assert_eq!(other.seen(), [text("2", 2), text("4", 1), text("6", 1)]);
    // Moments are handed over in tenths of a second, rounded up.
    other.later(STEP + Duration::from_millis(100));
    let late = other.seen();
    assert!(
        late.contains(&text("0", 2)) && late.contains(&text("5", 2)),
        "{late:?}"
    );
    other.later(STEP * 5);
    assert!(other.seen().contains(&text("3", 2)));
}

#[test]
fn notes_survive_an_owner_who_has_not_got_to_them() {
    let mut case = Case::new();
    (0..4).for_each(|offset| case.insert(offset, None));
    let out = claims(&case.all());
    case.ack(out[3]).unwrap();
    case.nack(out[2], Redelivery::After(Duration::ZERO));
    case.nack(out[1], Redelivery::Release);
    case.nack(out[0], Redelivery::Release);
    let mut brief = case.handed_over();
    brief.insert(0, None);
    let mut third = brief.handed_over();
    (0..4).for_each(|offset| third.insert(offset, None));
    assert_eq!(third.seen(), [text("0", 1), text("1", 1), text("2", 2)]);
}

#[test]
fn a_key_waits_for_its_first_event_whatever_becomes_of_it() {
    let mut case = Case::new();
    for (offset, key) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
        case.insert(offset, Some(key));
    }
    let out = case.all();
    assert_eq!(out.len(), 2, "one of each key: {out:?}");
    case.nack(out[0].2, Redelivery::After(STEP));
    assert_eq!(case.seen(), []);
    // The next owner keeps the order too.
    let mut other = case.handed_over();
    for (offset, key) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
        other.insert(offset, Some(key));
    }
    assert_eq!(other.seen(), []);
    case.later(STEP);
    for (wanted, attempt) in [("0", 2), ("1", 1), ("3", 1)] {
        let next = case.all();
        let ours: Vec<_> = next.iter().filter(|(text, ..)| text != "2").collect();
        assert_eq!((ours[0].0.as_str(), ours[0].1), (wanted, attempt));
        case.ack(ours[0].2).unwrap();
    }
}

#[test]
fn what_is_not_settled_comes_again_and_the_old_claim_is_void() {
    let mut case = Case::new();
    case.insert(0, None);
    let old = case.take().unwrap().2;
    case.ledger.extend(old, case.clock.now + STEP / 2, STEP).unwrap();
    case.later(STEP);
    assert_eq!(case.seen(), [], "it was extended");
    case.later(STEP);
    let (_, attempt, new) = case.take().unwrap();
    assert_eq!(attempt, 2);
    assert_eq!(case.ack(old), Err(Lost));
    assert_eq!(case.ledger.extend(old, case.clock.now, STEP), Err(Lost));
    case.ack(new).unwrap();
    assert_eq!(case.ack(new), Err(Lost));
}

#[test]
fn f_kaf_01_a_claim_ends_with_the_ownership() {
    let mut case = Case::new();
    case.insert(0, None);
    let claim = case.take().unwrap().2;
    case.ledger.forget(0);
    assert_eq!((case.ack(claim), case.ledger.held()), (Err(Lost), 0));
    case.ledger.own(0, 0, "");
    case.insert(0, None);
    let _again = case.take().unwrap();
    assert_eq!(case.ack(claim), Err(Lost), "a claim of an earlier ownership");
}

#[test]
fn nothing_is_given_out_of_a_partition_that_moves() {
    let mut case = Case::new();
    (0..2).for_each(|offset| case.insert(offset, None));
    let claim = case.take().unwrap().2;
    case.ledger.stop(0);
    assert_eq!(case.seen(), []);
    assert!(case.ledger.is_out(Some(&[0]), case.clock.now));
    case.ledger.abandon(claim);
    assert!(
        !case.ledger.is_out(Some(&[0]), case.clock.now),
        "nobody can settle it"
    );
}

#[test]
fn a_topic_that_was_made_anew_is_read_from_its_beginning() {
    let mut case = Case::new();
    case.ledger.own(0, 500, "");
    case.insert(0, None);
    case.insert(1, None);
    assert_eq!(case.seen(), [text("0", 1), text("1", 1)]);
    assert_eq!(case.committed().0, 0);
}
