//! Whether a service and what it leans on are well.

mod checker;

pub use self::checker::{Checker, check_fn};
