//! The suite of the event bus port.
//!
//! Delivery is at least once, so cases count distinct events; how many duplicates a harness allows is its
//! [`duplicate_bound`](EventBusHarness::duplicate_bound).

pub mod basics;
pub mod consume;
pub mod delays;
pub mod drain;
pub mod groups;
mod harness;
pub mod inputs;
mod kit;
pub mod lease;
pub mod membership;
pub mod order;
pub mod publish;
mod running;
pub mod settlement;
pub mod shutdown;

pub use self::harness::{EventBusHarness, lacked};
use super::{
    Case, assert_passed,
    case::{block_on, check_case, skipped},
    evidence, same_lacks,
};

/// The cases, stated once. `@threads` marks those that need real parallelism.
#[doc(hidden)]
#[macro_export]
macro_rules! __event_bus_cases {
    ($with:ident $args:tt) => {
        $crate::$with! { $args
            basics:
                every_field_of_an_event_arrives,
                an_event_without_optional_fields_arrives,
                payloads_of_every_size_arrive,
                next_gives_at_most_what_was_asked_for,
                publishing_needs_no_subscriber,
                many_publishers_many_members @threads,
                topics_do_not_mix @threads,
                a_working_bus_answers_a_ping;
            inputs:
                weird_header_values_arrive,
                weird_keys_and_ids_arrive,
                the_longest_names_work,
                similar_topics_do_not_mix,
                many_headers_arrive;
            publish:
                an_oversized_event_is_refused_and_not_stored,
                one_bad_entry_of_a_batch_fails_alone,
                a_batch_answers_once_per_event,
                a_second_event_of_the_same_id_follows_the_dedup_window,
                a_stuck_group_pushes_back,
                a_cancelled_publish_harms_no_other;
            settlement:
                an_acked_event_never_returns,
                a_nack_redelivers_and_counts_each_attempt,
                a_nack_leaves_other_events_alone,
                a_nack_concerns_its_own_group_only,
                a_redelivered_event_is_unchanged,
                a_storm_of_nacks_loses_nothing,
                a_released_event_returns_with_no_attempt_counted,
                an_out_of_order_ack_leaves_earlier_events,
                settling_twice_changes_nothing,
                a_cancelled_settlement_keeps_nothing_back;
            delays:
                a_delayed_nack_has_a_floor_and_a_ceiling,
                a_short_delay_does_not_wait_for_a_longer_one,
                a_delay_outlives_its_member,
                the_longest_times_do_no_harm;
            lease:
                an_unsettled_event_returns_after_its_deadline,
                a_dropped_delivery_returns,
                extending_keeps_a_slow_delivery,
                extending_keeps_each_delivery_of_a_batch,
                an_extended_delivery_returns_after_its_new_deadline,
                a_late_ack_settles_nothing_of_others,
                a_delivery_can_be_settled_after_leaving,
                the_last_member_gets_what_vanished_members_held,
                a_waiting_member_gets_what_others_do_not_settle,
                a_zero_ack_deadline_is_refused;
            order:
                order_holds_per_key_under_many_members,
                order_holds_within_a_batch,
                strict_order_holds_across_a_retry,
                strict_order_holds_across_a_lost_member,
                a_held_back_key_does_not_stall_others;
            groups:
                every_group_gets_every_event,
                members_of_a_group_share,
                a_group_outlives_its_members,
                a_new_group_starts_with_new_events,
                a_new_group_starts_with_the_oldest_or_says_unsupported,
                start_at_does_not_rewind_a_group,
                a_slow_group_does_not_stall_another;
            membership:
                a_late_member_gets_its_share,
                a_leaving_member_hands_over,
                a_cancelled_next_loses_nothing,
                a_cancelled_subscribe_leaves_no_member,
                members_come_and_go_during_flow,
                subscribing_and_leaving_many_times_loses_nothing,
                reopened_subscriptions_go_on_where_they_were;
            shutdown:
                close_is_idempotent_and_final,
                a_cancelled_close_can_be_repeated,
                close_ends_a_waiting_next,
                concurrent_closes_agree @threads,
                an_event_published_during_close_is_stored_or_refused @threads,
                settling_after_close_ends,
                what_was_done_before_close_lasts;
            consume:
                a_handled_event_is_handled_once,
                a_failed_event_comes_again_until_it_succeeds,
                spent_attempts_make_a_dead_letter,
                a_lasting_error_makes_a_dead_letter_at_once,
                a_panicking_handler_fails_its_own_event_only;
            drain:
                concurrency_and_keys_are_respected,
                a_slow_handler_keeps_its_event,
                stopping_waits_for_running_handlers,
                handlers_cut_at_shutdown_hand_their_events_back;
        }
    };
}

/// Makes one test of every case of the event bus suite, and one that compares what the adapter `lacks` with its
/// capabilities.
///
/// The harness expression is evaluated for each test, outside a runtime. `lacks` takes `order`, `strict_order`,
/// `delayed_redelivery`, `dedup`, `replay` and `durability`.
#[macro_export]
macro_rules! event_bus_suite {
    ($harness:expr $(, lacks: [$($lack:ident),* $(,)?])? $(,)?) => {
        $crate::__event_bus_cases! { __suite_tests { event_bus, $harness } }

        #[test]
        fn capabilities_are_true() {
            $crate::conformance::event_bus::check_lacks(&$harness, &[$($(stringify!($lack)),*)?]);
        }
    };
}

/// All cases, as data.
pub fn cases<H: EventBusHarness>() -> Vec<Case<H>> {
    __event_bus_cases! { __case_table {} }
}

/// Runs the case of this name as a test.
///
/// # Panics
/// When the case fails, or there is none of this name.
#[track_caller]
pub fn check<H: EventBusHarness>(harness: &H, name: &str) {
    if !skipped(harness.missing(), name) {
        let evidence = ("event_bus", harness.adapter());
        check_case(harness.profile(), harness, &cases(), name, evidence);
    }
}

/// Compares what an adapter says it lacks with its capabilities.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn check_lacks<H: EventBusHarness>(harness: &H, lacks: &[&str]) {
    if skipped(harness.missing(), "capabilities_are_true") {
        return;
    }
    let outcome = block_on(harness.profile(), false, async {
        let capabilities = harness.connect().await?.capabilities();
        evidence::capabilities("event_bus", harness.adapter(), &harness::described(&capabilities));
        same_lacks(lacks, &lacked(&capabilities))
    });
    assert_passed("capabilities_are_true", outcome);
}
