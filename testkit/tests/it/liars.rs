//! Every liar is caught by the case that has to catch it, and that case passes on the honest adapter.

use cqi_testkit::{
    conformance::{self, Case, Outcome, Profile, run},
    liars::{
        BusLie, CacheLie, CheckerLie, DatabaseLie, RegistryLie, lying_bus, lying_cache, lying_checker,
        lying_database, lying_registry,
    },
};

use crate::harness::{Bus, Check, Entries, Services, Sqlite};

/// Runs the case of this name.
fn outcome<H>(cases: &[Case<H>], name: &str, profile: Profile, harness: &H) -> Outcome {
    let case = cases.iter().find(|case| case.name == name);
    run(
        profile,
        harness,
        case.unwrap_or_else(|| panic!("there is no case {name}")),
    )
}

pub(crate) fn event_bus(lie: BusLie) -> Outcome {
    outcome(
        &conformance::event_bus::cases(),
        lie.caught_by(),
        Profile::paused(),
        &Bus::quick(|inner| lying_bus(inner, lie)),
    )
}

pub(crate) fn cache(lie: CacheLie) -> Outcome {
    outcome(
        &conformance::cache::cases(),
        lie.caught_by(),
        Profile::paused(),
        &Entries::quick(|inner| lying_cache(inner, lie)),
    )
}

pub(crate) fn checker(lie: CheckerLie) -> Outcome {
    outcome(
        &conformance::checker::cases(),
        lie.caught_by(),
        Profile::paused(),
        &Check::quick(|inner| lying_checker(inner, lie)),
    )
}

pub(crate) fn database(lie: DatabaseLie) -> Outcome {
    let harness = Sqlite::quick(move |inner| lying_database(inner, lie));
    outcome(
        &conformance::database::cases(),
        lie.caught_by(),
        Profile::real(),
        &harness,
    )
}

pub(crate) fn registry(lie: RegistryLie) -> Outcome {
    let harness = Services::quick(|inner| lying_registry(inner, lie));
    outcome(
        &conformance::registry::cases(),
        lie.caught_by(),
        Profile::paused(),
        &harness,
    )
}

/// One test per lie: the named case passes on the honest adapter and fails on the liar.
macro_rules! liars {
    ($($port:ident, $lies:ident, $honest:expr, $profile:expr => $($lie:ident)+;)+) => {$(
        mod $port {
            use super::*;

            $(
                #[test]
                #[allow(non_snake_case)]
                fn $lie() {
                    let case = $lies::$lie.caught_by();
                    let honest = outcome(&conformance::$port::cases(), case, $profile, &$honest);
                    assert!(honest.is_ok(), "{case} fails on the honest adapter: {honest:?}");
                    let lying = super::$port($lies::$lie);
                    assert!(lying.is_err_and(|failure| !failure.is_not_applicable()), "{case} does not catch it");
                }
            )+

            #[test]
            fn every_liar_has_its_test() {
                assert_eq!($lies::ALL, [$($lies::$lie),+]);
            }
        }
    )+};
}

liars! {
    event_bus, BusLie, Bus::quick(|inner| inner), Profile::paused() =>
        LosesNacked AcksOnDelivery ForgetsAcks DropsWhenFull GivesAllToEachMember TurnsBatchesRound DoesNotCount
        CountsReleases IgnoresDelays DoesNotExtend StaysOpen ClaimsReplay LosesCancelledBatches FailsWholeBatches
        DropsRepeatedIds TrimsHeaders CutsLargePayloads TakesItsTime ForgetsKeys CountsForAllGroups QueuesDelays
        ForgetsDelaysOfLeavers KeepsDroppedAcks ExtendsTheFirstOnly ExtendsForEver LeavesGhosts ForgetsDroppedCloses;
    cache, CacheLie, Entries::quick(|inner| inner), Profile::paused() =>
        IgnoresTimeToLive RacyIfAbsent RacyAdd AddRenews AddOverwrites MissIsAnError ZeroIsForEver TakesAnyKey
        ValuesAreText RoundsTimeToLive ConditionsAreForEver TinyIsForEver StaysOpen;
    checker, CheckerLie, Check::quick(|inner| inner), Profile::paused() =>
        LatchesUp LatchesDown HangsWhenDown HasAnyName;
    database, DatabaseLie, Sqlite::quick(|inner| inner), Profile::real() =>
        CommitsNothing HasNoTransactions ShowsParameters CallsAllTemporary IgnoresReadOnly SerializableMayWrite
        CountsOne EmptyIsNull StaysOpen;
    registry, RegistryLie, Services::quick(|inner| inner), Profile::paused() =>
        NeverExpires HeartbeatsAnything DropsChanges RepeatsChanges HasNoSnapshot UnknownIsAnError FindsAnyName
        TurnsTheListRound ForgetsMetadata StaysOpen;
}
