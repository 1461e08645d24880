//! The suite of the cache port.
//!
//! Entries may vanish early when a cache is full, so a harness must give the cache room for a few thousand small entries.

pub mod conditions;
pub mod counters;
pub mod entries;
pub mod expiry;
pub mod inputs;
mod kit;
pub mod lifecycle;
pub mod model;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{
    Result,
    cache::{Cache, Capabilities},
};

use super::{
    Case, Profile, assert_passed,
    case::{block_on, check_case, skipped},
    evidence, same_lacks,
};

/// How the suite gets at a cache.
#[async_trait]
pub trait CacheHarness: Send + Sync + 'static {
    /// Another handle to the same cache, as if from another process if it is shared. Called several times per case.
    async fn connect(&self) -> Result<Arc<dyn Cache>>;

    /// How long and how much to test.
    fn profile(&self) -> Profile;

    /// The adapter's name in the table of guarantees. Default: none, and no evidence is kept.
    fn adapter(&self) -> &'static str {
        ""
    }

    /// Why the adapter can't be tested here, for example because its server is not installed
    /// ([`fixture::missing`](crate::fixture::missing)). Its tests are then skipped, and say so. Default: it can.
    fn missing(&self) -> Option<String> {
        None
    }
}

/// The capabilities that are absent, by the names that `lacks:` uses.
pub fn lacked(capabilities: &Capabilities) -> Vec<&'static str> {
    [
        (
            "sub_second_ttl",
            capabilities.ttl_resolution >= Duration::from_secs(1),
        ),
        ("shared", !capabilities.shared),
    ]
    .into_iter()
    .filter_map(|(name, absent)| absent.then_some(name))
    .collect()
}

/// What an adapter says of itself, for the table of guarantees.
fn described(capabilities: &Capabilities) -> Vec<(&'static str, String)> {
    let shared = if capabilities.shared { "yes" } else { "no" };
    vec![
        (
            "smallest time to live",
            format!("{:?}", capabilities.ttl_resolution),
        ),
        ("largest value", format!("{} bytes", capabilities.max_value)),
        ("shared by processes", shared.to_owned()),
    ]
}

/// The cases, stated once.
#[doc(hidden)]
#[macro_export]
macro_rules! __cache_cases {
    ($with:ident $args:tt) => {
        $crate::$with! { $args
            entries:
                a_miss_is_none_and_no_error,
                what_was_set_is_read,
                a_set_overwrites,
                a_delete_tells_whether_something_was_there,
                keys_do_not_mix,
                a_second_handle_sees_what_capabilities_say;
            inputs:
                every_byte_survives_in_a_value,
                values_up_to_the_largest_are_kept,
                a_larger_value_is_refused_and_changes_nothing,
                unusual_keys_work,
                bad_keys_are_refused_by_every_method,
                a_zero_time_to_live_is_refused;
            expiry:
                an_entry_lives_as_long_as_it_was_told,
                an_expired_entry_is_absent_for_every_method,
                an_entry_without_time_to_live_stays,
                a_set_replaces_the_time_to_live,
                sub_second_times_follow_the_resolution,
                a_conditional_set_gives_its_time_to_live,
                a_failed_condition_leaves_the_time_to_live,
                the_smallest_and_the_largest_times_work;
            conditions:
                if_absent_and_if_present_follow_the_entry,
                one_of_fifty_racers_wins_if_absent @threads,
                if_present_racers_never_create @threads,
                one_of_fifty_deletes_finds_the_entry @threads;
            counters:
                add_counts_from_nothing,
                add_reads_what_set_wrote,
                concurrent_adds_lose_nothing @threads,
                add_keeps_the_time_to_live_of_a_present_key,
                add_gives_an_absent_key_its_time_to_live,
                add_does_not_resurrect_an_expired_count,
                add_refuses_overflow_and_keeps_the_value,
                add_refuses_what_is_no_number_and_keeps_the_value;
            model:
                random_operations_agree_with_a_model,
                concurrent_writers_leave_a_value_somebody_wrote @threads;
            lifecycle:
                a_working_cache_answers_a_ping,
                close_is_idempotent_and_final,
                a_cancelled_call_harms_no_other;
        }
    };
}

/// Makes one test of every case of the cache suite, and one that compares what the adapter `lacks` with its capabilities.
///
/// The harness expression is evaluated for each test, outside a runtime. `lacks` takes `sub_second_ttl` and `shared`.
#[macro_export]
macro_rules! cache_suite {
    ($harness:expr $(, lacks: [$($lack:ident),* $(,)?])? $(,)?) => {
        $crate::__cache_cases! { __suite_tests { cache, $harness } }

        #[test]
        fn capabilities_are_true() {
            $crate::conformance::cache::check_lacks(&$harness, &[$($(stringify!($lack)),*)?]);
        }
    };
}

/// All cases, as data.
pub fn cases<H: CacheHarness>() -> Vec<Case<H>> {
    __cache_cases! { __case_table {} }
}

/// Runs the case of this name as a test.
///
/// # Panics
/// When the case fails, or there is none of this name.
#[track_caller]
pub fn check<H: CacheHarness>(harness: &H, name: &str) {
    if !skipped(harness.missing(), name) {
        let evidence = ("cache", harness.adapter());
        check_case(harness.profile(), harness, &cases(), name, evidence);
    }
}

/// Compares what an adapter says it lacks with its capabilities.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn check_lacks<H: CacheHarness>(harness: &H, lacks: &[&str]) {
    if skipped(harness.missing(), "capabilities_are_true") {
        return;
    }
    let outcome = block_on(harness.profile(), false, async {
        let capabilities = harness.connect().await?.capabilities();
        evidence::capabilities("cache", harness.adapter(), &described(&capabilities));
        same_lacks(lacks, &lacked(&capabilities))
    });
    assert_passed("capabilities_are_true", outcome);
}
