use std::time::Duration;

use cqi_core::{
    Code, Error,
    config::MetricsConfig,
    observe::{Observation, Observer},
};

use super::Rig;
use crate::metrics::{Metrics, SECONDS};

fn metrics(config: &MetricsConfig) -> Metrics {
    Metrics::new(config, "my-shop").unwrap()
}

/// The value of the line that begins with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn met_2_3_op_19_names_have_service_and_subsystem() {
    let metrics = metrics(&MetricsConfig::default());
    metrics
        .new_counter("orders", "placed_total", "Orders.", &["country"])
        .unwrap()
        .inc(&["fr"]);
    metrics
        .new_gauge("orders", "open", "Open orders.", &[])
        .unwrap()
        .set(&[], -2.5);
    let sizes = metrics
        .new_histogram("orders", "wait_seconds", "Waiting.", &["country"], &[1.0, 2.0])
        .unwrap();
    sizes.observe(&["a\"b\n"], 1.5);
    let text = metrics.render();
    for line in [
        "# HELP my_shop_orders_placed_total Orders.",
        "# TYPE my_shop_orders_placed_total counter",
        "my_shop_orders_placed_total{country=\"fr\"} 1",
        "my_shop_orders_open -2.5",
        "my_shop_orders_wait_seconds_bucket{country=\"a\\\"b\\n\",le=\"2\"} 1",
        "my_shop_orders_wait_seconds_bucket{country=\"a\\\"b\\n\",le=\"+Inf\"} 1",
        "my_shop_orders_wait_seconds_sum{country=\"a\\\"b\\n\"} 1.5",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}\n{text}");
    }
}

#[test]
fn met_4_10_ml_met_5_names_and_labels_are_checked() {
    let metrics = metrics(&MetricsConfig::default());
    let bad: [(&str, &str, &str, &[&str]); 8] = [
        ("", "a", "h", &[]),
        ("a b", "a", "h", &[]),
        ("a", "1a", "h", &[]),
        ("a", "A", "h", &[]),
        ("a", "a", "", &[]),
        ("a", "a", "h", &["x", "x"]),
        ("a", "a", "h", &["le"]),
        ("a", "a", "h", &["__x"]),
    ];
    for (subsystem, name, help, labels) in bad {
        assert!(
            metrics
                .new_counter(subsystem, name, help, labels)
                .unwrap_err()
                .is_invalid_input()
        );
    }
    assert!(metrics.new_histogram("a", "a", "h", &[], &[2.0, 1.0]).is_err());
    assert!(metrics.new_histogram("a", "a", "h", &[], &[f64::NAN]).is_err());
    assert!(Metrics::new(&MetricsConfig::default(), "My Shop").is_err());
}

#[test]
fn ml_met_5_the_same_again_is_the_same_and_another_is_refused() {
    let metrics = metrics(&MetricsConfig::default());
    let make = |labels: &[&str]| metrics.new_counter("a", "b_total", "h", labels);
    make(&["x"]).unwrap().inc(&["1"]);
    make(&["x"]).unwrap().inc(&["1"]);
    assert!((make(&["x"]).unwrap().with(&["1"]).unwrap().get() - 2.0).abs() < 1e-9);
    assert_eq!(make(&["y"]).unwrap_err().code(), Some(Code::AlreadyExists));
    assert_eq!(
        metrics.new_gauge("a", "b_total", "h", &["x"]).unwrap_err().code(),
        Some(Code::AlreadyExists)
    );
    metrics.new_histogram("a", "h", "h", &[], SECONDS).unwrap();
    assert!(metrics.new_histogram("a", "h", "h", &[], &[1.0]).is_err());
    assert!(
        metrics.new_counter("a", "h_count", "h", &[]).is_err(),
        "would print the same line"
    );
}

#[test]
fn l_06_what_is_no_number_is_dropped_and_counted() {
    let metrics = metrics(&MetricsConfig::default());
    let counter = metrics
        .new_counter("a", "b_total", "h", &[])
        .unwrap()
        .with(&[])
        .unwrap();
    [f64::NAN, f64::INFINITY, -1.0, 2.0]
        .into_iter()
        .for_each(|amount| counter.add(amount));
    let histogram = metrics.new_histogram("a", "c", "h", &[], SECONDS).unwrap();
    histogram.observe(&[], f64::NAN);
    let text = metrics.render();
    assert_eq!(value(&text, "my_shop_a_b_total"), Some(2.0));
    let dropped = |metric| {
        let series = format!("my_shop_metrics_dropped_total{{metric=\"{metric}\",reason=\"invalid_value\"}}");
        value(&text, &series)
    };
    assert_eq!(
        (dropped("my_shop_a_b_total"), dropped("my_shop_a_c")),
        (Some(3.0), Some(1.0))
    );
}

#[test]
fn l_04_label_values_over_the_limit_are_other() {
    let metrics = metrics(&MetricsConfig {
        max_series: 10,
        ..MetricsConfig::default()
    });
    let counter = metrics.new_counter("a", "b_total", "h", &["user"]).unwrap();
    (0..1000).for_each(|user| counter.inc(&[&user.to_string()]));
    assert!(counter.with(&["1", "2"]).unwrap_err().is_invalid_input());
    counter.inc(&[]);
    let text = metrics.render();
    assert_eq!(value(&text, "my_shop_a_b_total{user=\"other\"}"), Some(990.0));
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("my_shop_a_b_total"))
            .count(),
        11
    );
    for (reason, count) in [("series_limit", 990.0), ("wrong_labels", 2.0)] {
        let series =
            format!("my_shop_metrics_dropped_total{{metric=\"my_shop_a_b_total\",reason=\"{reason}\"}}");
        assert_eq!(value(&text, &series), Some(count));
    }
}

#[test]
fn met_11_a_subsystem_that_is_not_enabled_records_nothing() {
    let metrics = metrics(&MetricsConfig {
        subsystems: vec!["http".into()],
        ..MetricsConfig::default()
    });
    let counter = metrics.new_counter("orders", "placed_total", "h", &[]).unwrap();
    counter.inc(&[]);
    assert!(counter.with(&[]).unwrap().get() < 1.0);
    assert!(
        metrics.new_gauge("orders", "placed_total", "h", &[]).is_err(),
        "checked all the same"
    );
    assert!(!metrics.render().contains("orders") && !metrics.render().contains("process"));
    let off = self::metrics(&MetricsConfig {
        enabled: false,
        ..MetricsConfig::default()
    });
    off.new_counter("http", "a_total", "h", &[]).unwrap().inc(&[]);
    assert_eq!(off.render(), "");
}

/// One of everything that is counted, and two HTTP requests.
pub(super) fn observe_everything(observer: &dyn Observer) {
    let (elapsed, failure) = (Duration::from_millis(20), Error::timeout(Duration::from_secs(1)));
    let error = Some(&failure);
    let served = |protocol, method, route, status| Observation::Served {
        protocol,
        method,
        route,
        status,
        elapsed,
        request_bytes: 10,
        response_bytes: 2000,
    };
    for observation in [
        served("http", "GET", "/a/{id}", "200"),
        served("http", "GET", "/a/{id}", "200"),
        served("grpc", "/a.B/C", "/a.B/C", "OK"),
        Observation::Handled {
            topic: "t",
            group: "g",
            elapsed,
            error: None,
        },
        Observation::Handled {
            topic: "t",
            group: "g",
            elapsed,
            error,
        },
        Observation::Published {
            topic: "t",
            error: None,
        },
        Observation::DeadLettered {
            topic: "t",
            group: "g",
            error: &failure,
        },
        Observation::CacheLookup { hit: true },
        Observation::CacheLookup { hit: false },
        Observation::Called {
            operation: "cache.get",
            elapsed,
            attempts: 3,
            error: None,
        },
        Observation::Retrying {
            operation: "cache.get",
            attempt: 1,
            delay: elapsed,
            error: &failure,
        },
        Observation::PanicRecovered { place: "handler" },
        Observation::KeysFetched {
            issuer: "https://issuer",
            error: None,
        },
        Observation::KeysFetched {
            issuer: "https://issuer",
            error: Some(&failure),
        },
    ] {
        observer.observe(&observation);
    }
}

#[test]
fn met_5_8_op_12_37_observations_feed_the_standard_metrics() {
    let rig = Rig::new("info");
    observe_everything(&*rig.telemetry.observer());
    let text = rig.telemetry.metrics().render();
    let http = "{method=\"GET\",path=\"/a/{id}\",status_code=\"200\"}";
    for (series, expected) in [
        (format!("http_request_count_total{http}"), 2.0),
        (format!("http_request_duration_seconds_count{http}"), 2.0),
        (format!("http_request_size_bytes_sum{http}"), 20.0),
        (format!("http_response_size_bytes_sum{http}"), 4000.0),
        (
            "grpc_call_count_total{method=\"/a.B/C\",status_code=\"OK\"}".into(),
            1.0,
        ),
        (
            "grpc_call_duration_seconds_count{method=\"/a.B/C\",status_code=\"OK\"}".into(),
            1.0,
        ),
        (
            "bus_messages_consumed_total{error_type=\"none\",topic=\"t\"}".into(),
            1.0,
        ),
        (
            "bus_messages_consumed_total{error_type=\"TIMEOUT\",topic=\"t\"}".into(),
            1.0,
        ),
        (
            "bus_handler_duration_seconds_count{topic=\"t\",error_type=\"TIMEOUT\"}".into(),
            1.0,
        ),
        (
            "bus_messages_published_total{error_type=\"none\",topic=\"t\"}".into(),
            1.0,
        ),
        (
            "bus_messages_dead_lettered_total{error_type=\"TIMEOUT\",topic=\"t\"}".into(),
            1.0,
        ),
        ("cache_lookups_total{result=\"hit\"}".into(), 1.0),
        (
            "cache_call_duration_seconds_count{method=\"get\",error_type=\"none\"}".into(),
            1.0,
        ),
        ("retry_attempts_total{operation=\"cache.get\"}".into(), 3.0),
        (
            "retry_retries_total{error_type=\"TIMEOUT\",operation=\"cache.get\"}".into(),
            1.0,
        ),
        ("errors_panics_recovered_total{place=\"handler\"}".into(), 1.0),
        (
            "auth_key_fetches_total{error_type=\"none\",issuer=\"https://issuer\"}".into(),
            1.0,
        ),
        (
            "auth_key_fetches_total{error_type=\"TIMEOUT\",issuer=\"https://issuer\"}".into(),
            1.0,
        ),
    ] {
        assert_eq!(
            value(&text, &format!("my_shop_{series}")),
            Some(expected),
            "{series}\n{text}"
        );
    }
}

#[test]
fn a_18_a_failed_fetch_leaves_the_time_of_the_keys_in_use() {
    let rig = Rig::new("info");
    let observer = rig.telemetry.observer();
    let at = || {
        let text = rig.telemetry.metrics().render();
        value(&text, "my_shop_auth_keys_fetched_timestamp_seconds{issuer=\"i\"}")
    };
    let failure = Error::temporary("down");
    let fetched = |error| observer.observe(&Observation::KeysFetched { issuer: "i", error });
    fetched(Some(&failure));
    assert_eq!(at(), None, "no keys, no time");
    let before = jiff::Timestamp::now().as_millisecond() as f64 / 1000.0;
    fetched(None);
    let first = at().unwrap();
    assert!(
        (before..before + 3600.0).contains(&first),
        "{first} from {before}"
    );
    fetched(Some(&failure));
    assert_eq!(at(), Some(first));
}

#[tokio::test]
async fn ml_perf_4_the_process_is_measured_at_each_scrape() {
    let text = metrics(&MetricsConfig::default()).render();
    for name in ["resident_memory_bytes", "threads", "open_fds"] {
        assert!(
            value(&text, &format!("my_shop_process_{name}")).unwrap() >= 1.0,
            "{text}"
        );
    }
    for name in ["cpu_seconds_total", "runtime_tasks"] {
        assert!(
            value(&text, &format!("my_shop_process_{name}")).is_some(),
            "{text}"
        );
    }
    assert!(value(&text, "my_shop_process_start_time_seconds").unwrap() > 1.7e9);
}
