//! The suite of the registry port.

pub mod instances;
mod kit;
pub mod leases;
pub mod lifecycle;
pub mod watching;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cqi_core::{Result, registry::Registry};

use super::{
    Case, Profile,
    case::{check_case, skipped},
};

/// How the suite gets at a registry.
#[async_trait]
pub trait RegistryHarness: Send + Sync + 'static {
    /// Another handle to the same registry, as if from another process. Called several times per case.
    async fn connect(&self) -> Result<Arc<dyn Registry>>;

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

    /// The time to live the registry was made with. A few seconds for a real clock: cases wait for it.
    fn time_to_live(&self) -> Duration;

    /// Whether the handles of [`RegistryHarness::connect`] can be closed one by one.
    fn closes_apart(&self) -> bool {
        true
    }
}

/// The cases, stated once.
#[doc(hidden)]
#[macro_export]
macro_rules! __registry_cases {
    ($with:ident $args:tt) => {
        $crate::$with! { $args
            instances:
                a_registered_instance_is_discovered_whole,
                instances_come_in_order_of_registration,
                names_do_not_mix,
                an_unknown_name_gives_an_empty_list,
                the_same_information_may_be_registered_twice,
                a_deregistered_instance_is_gone,
                bad_information_is_refused_and_not_registered,
                unusual_information_is_kept,
                concurrent_registrations_all_count;
            leases:
                an_instance_that_is_not_renewed_is_gone,
                a_heartbeat_keeps_an_instance,
                an_expired_instance_is_not_found,
                an_unknown_id_is_not_found,
                each_instance_has_its_own_lease;
            watching:
                a_watch_starts_with_what_is_there,
                a_watch_tells_each_change_once_in_order,
                a_watch_tells_of_an_expiry,
                a_watch_hears_of_its_own_name_only,
                two_watches_hear_the_same,
                a_slow_watch_misses_nothing,
                a_watch_far_behind_ends_with_the_truth,
                a_cancelled_next_loses_no_change,
                a_dropped_watch_disturbs_nobody;
            lifecycle:
                a_working_registry_answers_a_ping,
                close_is_idempotent_and_final,
                close_ends_a_waiting_watch;
        }
    };
}

/// Makes one test of every case of the registry suite.
///
/// The harness expression is evaluated for each test, outside a runtime.
#[macro_export]
macro_rules! registry_suite {
    ($harness:expr $(,)?) => {
        $crate::__registry_cases! { __suite_tests { registry, $harness } }
    };
}

/// All cases, as data.
pub fn cases<H: RegistryHarness>() -> Vec<Case<H>> {
    __registry_cases! { __case_table {} }
}

/// Runs the case of this name as a test.
///
/// # Panics
/// When the case fails, or there is none of this name.
#[track_caller]
pub fn check<H: RegistryHarness>(harness: &H, name: &str) {
    if !skipped(harness.missing(), name) {
        let evidence = ("registry", harness.adapter());
        check_case(harness.profile(), harness, &cases(), name, evidence);
    }
}
