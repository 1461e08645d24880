//! The span of a request. Each way to treat it is a process, as telemetry is installed for all of it.

use std::hint::black_box;

use cqi::{
    config::{LogConfig, MetricsConfig, TracingConfig},
    telemetry::{ServiceIdentity, Telemetry, TelemetryOptions},
};
use tracing::field::Empty;

use crate::{
    measure::Clock,
    process::{self, nobody},
    report::{Report, Target, say},
    serve::discard,
};

/// What becomes of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traces {
    /// There is no exporter.
    NoExporter,
    /// There is one, and the trace is not chosen.
    SampledOut,
    /// It is, and dropped in batches.
    Recorded,
}

impl Traces {
    pub(crate) const ALL: [Self; 3] = [Self::NoExporter, Self::SampledOut, Self::Recorded];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoExporter => "no-exporter",
            Self::SampledOut => "sampled-out",
            Self::Recorded => "recorded",
        }
    }

    fn case(self) -> &'static str {
        match self {
            Self::NoExporter => "span of a request, no exporter",
            Self::SampledOut => "span of a request, sampled out",
            Self::Recorded => "span of a request, recorded",
        }
    }
}

pub(super) async fn round(report: &mut Report) {
    for traces in Traces::ALL {
        if report.has("cqi") {
            let total = report.count(500_000).to_string();
            let nanos = process::ask(&process::this_program(), &["spans", traces.name(), &total]).await;
            report.figure(traces.case(), "cqi", 0, nanos[0], "ns/op");
        }
    }
    let sampled_out = Traces::SampledOut.case();
    report.target(sampled_out, 0, "ns/op", Target::Below(1000.0));
    report.note("span of a request: opened with 4 fields, entered twice, given its status, closed; the log, at level info, keeps the fields for its lines; recorded: handed over to a queue whose batches are dropped");
}

/// Opens and closes spans, and prints the nanoseconds that one took.
pub(crate) fn spans(traces: Traces, total: usize) {
    let log = LogConfig {
        output: "/dev/null".to_owned(),
        ..LogConfig::default()
    };
    let (endpoint, sample_rate) = match traces {
        Traces::NoExporter => (String::new(), 0.0),
        Traces::SampledOut => (format!("127.0.0.1:{}", nobody()), 0.0),
        Traces::Recorded => (String::new(), 1.0),
    };
    let tracing = TracingConfig {
        endpoint,
        sample_rate,
        ..TracingConfig::default()
    };
    let options = match traces {
        Traces::Recorded => discard::options(),
        _ => TelemetryOptions::default(),
    };
    let (metrics, service) = (MetricsConfig::default(), ServiceIdentity::new("bench"));
    let _telemetry = Telemetry::init_with(&log, &metrics, &tracing, service, options).expect("telemetry");
    (0..total / 10).for_each(|_| span());
    let clock = Clock::start();
    (0..total).for_each(|_| span());
    say(clock.stop().wall.as_nanos() as f64 / total as f64);
}

/// What the HTTP server does with the span of each request.
fn span() {
    let span = tracing::error_span!(
        "request",
        method = black_box("GET"),
        path = black_box("/users/17"),
        route = black_box("/users/{id}"),
        request_id = black_box("0197a3b07c3e7d2a9c563f1b0c2e9a7d"),
        status_code = Empty,
    );
    span.in_scope(|| black_box(()));
    span.in_scope(|| span.record("status_code", black_box(200)));
}
