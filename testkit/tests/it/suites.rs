//! Every suite on the in-memory default of its port (TKT-5, TST-6): no server and no network.

/// BUS-13, BUS-25, ML-MSG-10.
mod event_bus {
    use crate::harness::Bus;

    cqi_testkit::event_bus_suite!(Bus::memory(), lacks: [dedup, replay, durability]);
}

/// As an adapter of a server is tested: on several threads, by the real clock.
mod event_bus_in_real_time {
    use crate::harness::Bus;

    cqi_testkit::event_bus_suite!(Bus::real_time(), lacks: [dedup, replay, durability]);
}

mod cache {
    use crate::harness::Entries;

    cqi_testkit::cache_suite!(Entries::memory(), lacks: [shared]);
}

mod checker {
    use crate::harness::Check;

    cqi_testkit::checker_suite!(Check::function());
}

mod registry {
    use crate::harness::Services;

    cqi_testkit::registry_suite!(Services::memory());
}

mod sqlite_in_a_file {
    use crate::harness::Sqlite;

    cqi_testkit::database_suite!(Sqlite::file(), lacks: [arrays]);
}

mod sqlite_in_memory {
    use crate::harness::Sqlite;

    cqi_testkit::database_suite!(Sqlite::memory(), lacks: [arrays]);
}

/// Through a wrapper without planned faults, everything is as without it.
mod through_faulty {
    mod event_bus {
        use crate::{faulty::bus, harness::Bus};

        cqi_testkit::event_bus_suite!(Bus::quick(bus), lacks: [dedup, replay, durability]);
    }

    mod cache {
        use crate::{faulty::cache, harness::Entries};

        cqi_testkit::cache_suite!(Entries::quick(cache), lacks: [shared]);
    }

    mod database {
        use crate::{faulty::database, harness::Sqlite};

        cqi_testkit::database_suite!(Sqlite::quick(database), lacks: [arrays]);
    }

    mod registry {
        use crate::{faulty::registry, harness::Services};

        cqi_testkit::registry_suite!(Services::quick(registry));
    }

    mod checker {
        use crate::{faulty::checker, harness::Check};

        cqi_testkit::checker_suite!(Check::quick(checker));
    }
}
