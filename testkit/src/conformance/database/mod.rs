//! The suite of the database port.

pub mod cancellation;
pub mod errors;
pub mod helpers;
mod kit;
pub mod lifecycle;
pub mod statements;
pub mod transactions;
pub mod values;

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{
    Code, Result,
    database::{Database, Value, sql},
};

use super::{
    Case, Profile, assert_passed,
    case::{block_on, check_case, skipped},
    evidence, same_lacks,
};

/// How the suite gets at a database.
///
/// The database may make tables; every case makes its own, of a name nobody else uses, and drops none.
#[async_trait]
pub trait DatabaseHarness: Send + Sync + 'static {
    /// Another handle to the same database, with connections of its own where the database can have several.
    async fn connect(&self) -> Result<Arc<dyn Database>>;

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

    /// How many transactions one handle can have open at once. One more is `Temporary`/`Exhausted` within the profile's
    /// limit.
    fn connections(&self) -> usize;

    /// Whether the handles of [`DatabaseHarness::connect`] have connections of their own. False for a database that lives
    /// in one connection.
    fn connects_apart(&self) -> bool {
        true
    }
}

/// The cases, stated once.
#[doc(hidden)]
#[macro_export]
macro_rules! __database_cases {
    ($with:ident $args:tt) => {
        $crate::$with! { $args
            values:
                integers_and_truth_values_round_trip,
                floats_round_trip,
                texts_and_bytes_round_trip,
                decimals_round_trip_exactly,
                timestamps_round_trip_to_the_microsecond,
                uuids_and_json_round_trip,
                null_round_trips_as_every_type,
                arrays_round_trip_or_are_unsupported,
                a_value_of_another_type_is_undecodable;
            statements:
                execute_counts_the_rows_it_changed,
                query_gives_all_rows_in_order,
                columns_have_names_and_positions,
                parameters_go_by_number,
                parameters_never_become_sql,
                returning_and_on_conflict_work,
                ctes_and_window_functions_work,
                a_sum_of_integers_is_read_as_an_integer,
                many_rows_arrive;
            errors:
                a_unique_violation_is_already_exists,
                other_constraints_are_failed_preconditions,
                bad_sql_is_permanent,
                a_wrong_number_of_parameters_is_refused,
                no_error_shows_a_parameter,
                a_failed_statement_leaves_the_connection_working;
            transactions:
                a_commit_makes_changes_lasting,
                a_rollback_takes_changes_back,
                a_dropped_transaction_is_rolled_back,
                a_transaction_of_a_panicked_task_is_rolled_back,
                uncommitted_changes_are_not_seen_by_others,
                a_transaction_sees_its_own_changes,
                a_read_only_transaction_refuses_writes,
                a_failed_statement_in_a_transaction_can_be_rolled_back,
                a_failed_statement_ends_its_transaction,
                repositories_work_in_and_out_of_a_transaction,
                concurrent_increments_lose_nothing,
                serializable_transactions_do_not_lose_updates,
                serializable_transactions_do_not_pass_each_other;
            cancellation:
                a_cancelled_begin_leaves_no_transaction_behind,
                a_cancelled_statement_leaves_the_connection_whole,
                a_cancelled_commit_either_happened_or_not;
            helpers:
                with_transaction_commits_on_ok,
                with_transaction_rolls_back_on_an_error,
                with_transaction_rolls_back_on_a_panic,
                with_transaction_can_be_dropped_anywhere,
                a_failed_savepoint_is_taken_back_alone,
                conflicts_are_repeated;
            lifecycle:
                a_working_database_answers_a_ping,
                an_exhausted_pool_says_so_in_time,
                many_borrowers_share_few_connections,
                close_waits_for_running_statements,
                close_is_idempotent_and_final;
        }
    };
}

/// Makes one test of every case of the database suite, and one that compares what the adapter `lacks` with what it does.
///
/// The harness expression is evaluated for each test, outside a runtime. `lacks` takes `arrays`.
#[macro_export]
macro_rules! database_suite {
    ($harness:expr $(, lacks: [$($lack:ident),* $(,)?])? $(,)?) => {
        $crate::__database_cases! { __suite_tests { database, $harness } }

        #[test]
        fn capabilities_are_true() {
            $crate::conformance::database::check_lacks(&$harness, &[$($(stringify!($lack)),*)?]);
        }
    };
}

/// All cases, as data.
pub fn cases<H: DatabaseHarness>() -> Vec<Case<H>> {
    __database_cases! { __case_table {} }
}

/// Runs the case of this name as a test.
///
/// # Panics
/// When the case fails, or there is none of this name.
#[track_caller]
pub fn check<H: DatabaseHarness>(harness: &H, name: &str) {
    if !skipped(harness.missing(), name) {
        let evidence = ("database", harness.adapter());
        check_case(harness.profile(), harness, &cases(), name, evidence);
    }
}

/// Compares what an adapter says it lacks with what it does: the port has no record of capabilities to ask.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn check_lacks<H: DatabaseHarness>(harness: &H, lacks: &[&str]) {
    if skipped(harness.missing(), "capabilities_are_true") {
        return;
    }
    let outcome = block_on(harness.profile(), false, async {
        let array = Value::Array(vec![Value::Int(1)]);
        let answer = harness.connect().await?.query(sql("SELECT $1").bind(array)).await;
        let unsupported = answer.is_err_and(|error| error.code() == Some(Code::Unsupported));
        let arrays = if unsupported { "no" } else { "yes" };
        evidence::capabilities("database", harness.adapter(), &[("arrays", arrays.to_owned())]);
        same_lacks(lacks, if unsupported { &["arrays"] } else { &[] })
    });
    assert_passed("capabilities_are_true", outcome);
}
