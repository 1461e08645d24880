//! What all our librdkafka clients have in common: settings, and where their log lines and errors go.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use cqi_core::Error;
use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError, types::RDKafkaErrorCode};

use crate::{config::KafkaOptions, error};

/// Locks a mutex that no code of ours can leave poisoned.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// librdkafka's other names of settings that are made here. Were one given under both, chance would say which counts.
const ALIASES: [(&str, &str); 5] = [
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("sasl.mechanisms", "sasl.mechanism"),
];

/// The settings every client starts from. The result holds secrets: never print it.
pub(crate) fn settings(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in &options.properties {
        let alias = ALIASES.iter().find(|(alias, _)| alias == key);
        config.set(alias.map_or(key.as_str(), |(_, name)| name), value.expose());
    }
    if !options.user.is_empty() {
        for (key, value) in [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
        ] {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        }
        config.set("sasl.username", &options.user);
        config.set("sasl.password", options.password.expose());
    }
    if config.get("client.id").is_none() {
        config.set("client.id", "cqi");
    }
    config
        .set("bootstrap.servers", options.servers())
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("socket.timeout.ms", "10000")
        .set(
            "socket.connection.setup.timeout.ms",
            millis(options.connection_timeout),
        )
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("allow.auto.create.topics", "false")
        .set("topic.metadata.refresh.fast.interval.ms", "50");
    config
}

pub(crate) fn millis(time: std::time::Duration) -> String {
    time.as_millis().max(1).to_string()
}

/// Passes a log line of librdkafka on.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::warn!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            tracing::info!(target: "librdkafka", facility, "{line}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, "{line}");
        }
    }
}

/// The last trouble a client reported on its own, to say why a call got no answer.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    last: Mutex<Option<(RDKafkaErrorCode, String)>>,
    all_down: AtomicBool,
    /// The brokers, as they are called in reasons, that could not be talked to.
    away: Mutex<BTreeSet<String>>,
}

/// So many are counted at most.
const AWAY: usize = 64;

impl Trouble {
    pub(crate) fn note(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
        if let Some(code) = error.rdkafka_error_code() {
            let mut last = lock(&self.last);
            if code == RDKafkaErrorCode::AllBrokersDown {
                self.all_down.store(true, SeqCst);
            }
            if let (RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve, Some((broker, _))) =
                (code, reason.split_once(": "))
            {
                let mut away = lock(&self.away);
                if away.len() < AWAY {
                    away.insert(broker.to_owned());
                }
            }
            // "All brokers are down" comes after the reason why, and tells less.
            if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
                *last = Some(untrusted(code, reason).unwrap_or_else(|| (code, reason.to_owned())));
            }
        }
    }

    /// What was reported since the last call.
    pub(crate) fn take(&self) -> Option<(RDKafkaErrorCode, String)> {
        lock(&self.last).take()
    }

    /// Whether no broker was left since the last call. The client says so only of brokers that it has talked to.
    pub(crate) fn all_down(&self) -> bool {
        self.all_down.swap(false, SeqCst)
    }

    /// How many brokers could not be talked to, once at least.
    pub(crate) fn away(&self) -> usize {
        lock(&self.away).len()
    }

    /// An error for a call that failed with `error`: the trouble behind it, if one is known, else the error itself.
    pub(crate) fn explain(&self, error: &KafkaError, operation: &'static str) -> Error {
        match self.take() {
            Some((code, reason)) => error::from_code(code, operation).with_context("reason", reason),
            None => error::from_client(error, operation),
        }
    }
}

/// A certificate that is not trusted, which the client at times calls a failed connection: that one does not mend.
fn untrusted(code: RDKafkaErrorCode, reason: &str) -> Option<(RDKafkaErrorCode, String)> {
    let is = code == RDKafkaErrorCode::BrokerTransportFailure && reason.contains("certificate verify failed");
    is.then(|| {
        let reason = format!("{reason}: see the property ssl.ca.location");
        (RDKafkaErrorCode::SSL, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_here_cannot_be_set_under_another_name() {
        let given = |key: &str| (key.to_owned(), "given".into());
        let config = settings(&KafkaOptions {
            user: "me".into(),
            properties: ALIASES.map(|(alias, _)| given(alias)).into(),
            ..KafkaOptions::default()
        });
        for (alias, name) in ALIASES {
            let expected = match name {
                "bootstrap.servers" => "localhost:9092",
                _ => "given", // whoever sets it takes this one's place
            };
            assert_eq!((config.get(alias), config.get(name)), (None, Some(expected)));
        }
    }

    #[test]
    fn c_13_a_certificate_that_is_not_trusted_is_no_broker_that_is_away() {
        let trouble = Trouble::default();
        let failed = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        trouble.note(
            &failed,
            "error:0A000086:SSL routines::certificate verify failed (after 7ms in state SSL_HANDSHAKE)",
        );
        trouble.note(
            &KafkaError::Global(RDKafkaErrorCode::AllBrokersDown),
            "1/1 brokers are down",
        );
        let (code, reason) = trouble.take().unwrap();
        assert_eq!(code, RDKafkaErrorCode::SSL);
        assert!(trouble.all_down() && !trouble.all_down());
        assert!(reason.contains("ssl.ca.location"), "{reason}");
        trouble.note(&failed, "Connection refused");
        let refused = (
            RDKafkaErrorCode::BrokerTransportFailure,
            "Connection refused".to_owned(),
        );
        assert_eq!(trouble.take(), Some(refused));
    }

    #[test]
    fn each_broker_that_is_away_counts_once() {
        let trouble = Trouble::default();
        let failed = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        for broker in ["a:1/bootstrap", "b:1/bootstrap", "a:1/bootstrap"] {
            trouble.note(&failed, &format!("{broker}: Connect to ipv4#10.0.0.1:1 failed"));
        }
        assert_eq!(trouble.away(), 2);
    }
}
