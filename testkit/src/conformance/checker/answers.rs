//! What a checker answers.

use std::sync::Arc;

use cqi_core::name::check_name;
use tokio::{task::JoinSet, time::timeout};

use super::CheckerHarness;
use crate::{
    conformance::{Failure, Outcome, cut, ensure, failure::keeps_secrets},
    eventually,
};

/// The name follows the grammar and stays the same.
pub async fn a_checker_has_a_proper_name<H: CheckerHarness>(h: &H) -> Outcome {
    let checker = h.connect().await?;
    let name = checker.name().to_owned();
    check_name(&name, "checker name")?;
    h.take_down().await?;
    let _ = timeout(h.profile().limit, checker.check()).await;
    ensure!(checker.name() == name, "the name changed to {}", checker.name());
    h.bring_back().await?;
    Ok(())
}

/// HLT-1, HLT-10: while the dependency works, every check is `Ok`.
pub async fn a_working_dependency_is_up<H: CheckerHarness>(h: &H) -> Outcome {
    let checker = h.connect().await?;
    for _ in 0..10 {
        match timeout(h.profile().limit, checker.check()).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Failure::new("the check did not answer")),
        }
    }
    Ok(())
}

/// A checker does not latch: up, down, up, down and up again are all reported.
pub async fn up_down_and_up_again_are_all_reported<H: CheckerHarness>(h: &H) -> Outcome {
    let checker = h.connect().await?;
    let limit = h.profile().limit;
    let up = async || {
        eventually("the checker says up", limit, async || {
            timeout(limit, checker.check())
                .await
                .map_err(|_| "no answer".to_owned())?
                .map_err(|e| e.to_string())
        })
        .await
    };
    for _ in 0..2 {
        up().await?;
        h.take_down().await?;
        eventually("the checker says down", limit, async || {
            match timeout(limit, checker.check()).await {
                Ok(Ok(())) => Err("up"),
                _ => Ok(()),
            }
        })
        .await?;
        h.bring_back().await?;
    }
    up().await
}

/// HLT-10: while the dependency is down, a check ends by itself within the limit, with an error that says why on one
/// line.
pub async fn a_failed_check_answers_in_time_and_says_why<H: CheckerHarness>(h: &H) -> Outcome {
    let checker = h.connect().await?;
    h.take_down().await?;
    let answer = timeout(h.profile().limit, checker.check()).await;
    h.bring_back().await?;
    match answer {
        Ok(Err(error)) => {
            ensure!(
                !error.is_invalid_input(),
                "a check fails as the caller's mistake: {error}"
            );
            keeps_secrets("a failed check", &error)
        }
        Ok(Ok(())) => Err(Failure::new("up, though the dependency is down")),
        Err(_) => Err(Failure::new("a check of a dependency that is down hangs")),
    }
}

/// Many checks at once all get their answer.
pub async fn concurrent_checks_agree<H: CheckerHarness>(h: &H) -> Outcome {
    let checker = h.connect().await?;
    let limit = h.profile().limit;
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let checker = Arc::clone(&checker);
        tasks.spawn(async move { timeout(limit, checker.check()).await });
    }
    while let Some(done) = tasks.join_next().await {
        match done? {
            Ok(answer) => answer?,
            Err(_) => return Err(Failure::new("a check among others did not answer")),
        }
    }
    Ok(())
}

/// A check dropped midway leaves the checker working.
pub async fn a_cancelled_check_harms_no_other<H: CheckerHarness>(h: &H) -> Outcome {
    let checker = h.connect().await?;
    for steps in 0..20 {
        if let Some(answer) = cut(checker.check(), steps % 4).await {
            answer?;
        }
    }
    match timeout(h.profile().limit, checker.check()).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new("the check did not answer")),
    }
}
