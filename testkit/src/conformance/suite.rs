//! The macros shared by all suites. Each port states its cases once, in its own `mod.rs`, as a macro that hands the list
//! to one of these two.

/// Expands to the list of cases as data.
#[doc(hidden)]
#[macro_export]
macro_rules! __case_table {
    ({} $($theme:ident: $($case:ident $(@$threads:ident)?),+ $(,)?;)+) => {
        vec![$($(
            $crate::conformance::Case {
                name: stringify!($case),
                theme: stringify!($theme),
                threads: !([$(stringify!($threads))?] as [&str; _]).is_empty(),
                body: |harness| Box::pin($theme::$case(harness)),
            },
        )+)+]
    };
}

/// Expands to one test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! __suite_tests {
    ({$port:ident, $harness:expr} $($theme:ident: $($case:ident $(@$threads:ident)?),+ $(,)?;)+) => {$($(
        #[test]
        fn $case() {
            $crate::conformance::$port::check(&$harness, stringify!($case));
        }
    )+)+};
}
