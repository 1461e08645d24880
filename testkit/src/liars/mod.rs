//! Adapters that break a promise on purpose, each in one way that has been seen in real ones.
//!
//! They test the tests: for every lie the suite names the case that has to catch it. Without them a green run says little.

mod bus;
mod cache;
mod checker;
mod database;
mod registry;

pub use self::{
    bus::{BusLie, lying_bus},
    cache::{CacheLie, lying_cache},
    checker::{CheckerLie, lying_checker},
    database::{DatabaseLie, lying_database},
    registry::{RegistryLie, lying_registry},
};

/// Declares the lies of a port: name, meaning, and the case that catches it.
macro_rules! lies {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $lie:ident => $case:ident,)+ }) => {
        $(#[$meta])*
        #[non_exhaustive]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $lie,)+ }

        impl $name {
            /// Every lie.
            pub const ALL: &[Self] = &[$(Self::$lie,)+];

            /// The name of the case that has to catch it.
            pub const fn caught_by(self) -> &'static str {
                match self { $(Self::$lie => stringify!($case),)+ }
            }
        }
    };
}

use lies;
