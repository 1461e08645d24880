//! The suite of the checker port.

pub mod answers;

use std::sync::Arc;

use async_trait::async_trait;
use cqi_core::{Result, health::Checker};

use super::{
    Case, Profile,
    case::{check_case, skipped},
};

/// How the suite gets at a checker and the dependency it asks.
#[async_trait]
pub trait CheckerHarness: Send + Sync + 'static {
    /// The checker. Called once per case.
    async fn connect(&self) -> Result<Arc<dyn Checker>>;

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

    /// Takes the dependency down, so that the checker has to fail; done when it returns.
    async fn take_down(&self) -> Result<()>;

    /// Brings the dependency back; done when it returns.
    async fn bring_back(&self) -> Result<()>;
}

/// The cases, stated once.
#[doc(hidden)]
#[macro_export]
macro_rules! __checker_cases {
    ($with:ident $args:tt) => {
        $crate::$with! { $args
            answers:
                a_checker_has_a_proper_name,
                a_working_dependency_is_up,
                up_down_and_up_again_are_all_reported,
                a_failed_check_answers_in_time_and_says_why,
                concurrent_checks_agree,
                a_cancelled_check_harms_no_other;
        }
    };
}

/// Makes one test of every case of the checker suite.
///
/// The harness expression is evaluated for each test, outside a runtime.
#[macro_export]
macro_rules! checker_suite {
    ($harness:expr $(,)?) => {
        $crate::__checker_cases! { __suite_tests { checker, $harness } }
    };
}

/// All cases, as data.
pub fn cases<H: CheckerHarness>() -> Vec<Case<H>> {
    __checker_cases! { __case_table {} }
}

/// Runs the case of this name as a test.
///
/// # Panics
/// When the case fails, or there is none of this name.
#[track_caller]
pub fn check<H: CheckerHarness>(harness: &H, name: &str) {
    if !skipped(harness.missing(), name) {
        let evidence = ("checker", harness.adapter());
        check_case(harness.profile(), harness, &cases(), name, evidence);
    }
}
