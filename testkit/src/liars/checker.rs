//! Checkers that lie.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use async_trait::async_trait;
use cqi_core::{Error, Result, health::Checker};

use super::lies;

lies! {
    /// What a checker can lie about.
    CheckerLie {
        /// After the first success it is up for ever.
        LatchesUp => up_down_and_up_again_are_all_reported,
        /// After the first failure it is down for ever.
        LatchesDown => up_down_and_up_again_are_all_reported,
        /// While the dependency is down it does not answer.
        HangsWhenDown => a_failed_check_answers_in_time_and_says_why,
        /// It has a name for humans.
        HasAnyName => a_checker_has_a_proper_name,
    }
}

/// Makes a liar of an honest checker.
pub fn lying_checker(inner: Arc<dyn Checker>, lie: CheckerLie) -> Arc<dyn Checker> {
    Arc::new(Liar {
        inner,
        lie,
        latched: AtomicBool::new(false),
    })
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn Checker>,
    lie: CheckerLie,
    latched: AtomicBool,
}

#[async_trait]
impl Checker for Liar {
    fn name(&self) -> &str {
        if self.lie == CheckerLie::HasAnyName {
            "The Database!"
        } else {
            self.inner.name()
        }
    }

    async fn check(&self) -> Result<()> {
        let answer = self.inner.check().await;
        match self.lie {
            CheckerLie::LatchesUp if self.latched.fetch_or(answer.is_ok(), SeqCst) => Ok(()),
            CheckerLie::LatchesDown if self.latched.fetch_or(answer.is_err(), SeqCst) => {
                Err(Error::temporary("down once, down for ever"))
            }
            CheckerLie::HangsWhenDown if answer.is_err() => std::future::pending().await,
            _ => answer,
        }
    }
}
