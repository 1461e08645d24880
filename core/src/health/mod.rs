//! Whether a service and what it leans on are well.

mod check;
mod checker;
#[allow(clippy::module_inception)]
mod health;
mod report;

pub use self::{
    check::CheckOptions,
    checker::{Checker, check_fn},
    health::Health,
    report::{Outcome, Report, Status},
};
