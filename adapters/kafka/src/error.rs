//! What Kafka's errors mean: the one place that says so.

use cqi_core::{Code, Error, Kind};
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

use crate::producer::PUBLISH;

/// What the client cannot do to a record is to decompress it.
const NO_ZSTD: &str =
    "records compressed with zstd need the feature `zstd` of cqi-kafka, which is off in this build";

/// Makes a typed error of one of Kafka's. Where a published event may be stored although it failed, the error says so.
pub(crate) fn from_code(code: RDKafkaErrorCode, operation: &'static str) -> Error {
    use RDKafkaErrorCode as E;
    let (kind, finer) = match code {
        E::QueueFull | E::ThrottlingQuotaExceeded | E::GroupMaxSizeReached => {
            (Kind::Temporary, Some(Code::Exhausted))
        }
        E::MessageTimedOut | E::RequestTimedOut | E::OperationTimedOut | E::TimedOutQueue => {
            (Kind::Temporary, Some(Code::Timeout))
        }
        E::PurgeQueue | E::PurgeInflight => (Kind::Temporary, Some(Code::Cancelled)),
        E::MessageSizeTooLarge | E::MessageBatchTooLarge | E::InvalidMessageSize => {
            (Kind::InvalidInput, Some(Code::TooLarge))
        }
        E::InvalidTopic
        | E::InvalidConfig
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::PolicyViolation
        | E::InvalidRecord
        | E::InvalidTimestamp
        | E::InvalidSessionTimeout
        | E::InvalidGroupId => (Kind::InvalidInput, None),
        E::UnknownTopicOrPartition | E::UnknownTopic | E::UnknownPartition | E::GroupIdNotFound => {
            (Kind::NotFound, None)
        }
        E::Authentication
        | E::SaslAuthenticationFailed
        | E::UnsupportedSASLMechanism
        | E::IllegalSASLState
        | E::SSL => (Kind::Unauthorized, None),
        E::TopicAuthorizationFailed | E::GroupAuthorizationFailed | E::ClusterAuthorizationFailed => {
            (Kind::Unauthorized, Some(Code::PermissionDenied))
        }
        E::InconsistentGroupProtocol | E::FencedInstanceId | E::NotImplemented => {
            (Kind::Permanent, Some(Code::FailedPrecondition))
        }
        E::InvalidArgument
        | E::InvalidRequest
        | E::UnsupportedVersion
        | E::UnsupportedFeature
        | E::SecurityDisabled
        | E::UnsupportedCompressionType => (Kind::Permanent, None),
        // Everything else passes: a broker is away, a leader or coordinator moves, a group rebalances.
        _ => (Kind::Temporary, Some(Code::Unavailable)),
    };
    let mut error =
        Error::from_source(kind, code.to_string(), KafkaError::Global(code)).with_operation(operation);
    if let Some(finer) = finer {
        error = error.with_code(finer);
    }
    if code == E::NotImplemented && cfg!(not(feature = "zstd")) {
        error = error.with_context("hint", NO_ZSTD);
    }
    if operation == PUBLISH && unknown(code) {
        error = error.maybe_applied();
    }
    error
}

/// Whether an event may be stored although publishing it failed so.
fn unknown(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as E;
    matches!(
        code,
        E::MessageTimedOut
            | E::RequestTimedOut
            | E::OperationTimedOut
            | E::PurgeInflight
            | E::BrokerTransportFailure
            | E::NetworkException
            | E::NotEnoughReplicasAfterAppend
            | E::DestroyBroker
            | E::BrokerDestroy
            | E::Fatal
            | E::OutOfOrderSequenceNumber
            | E::GaplessGuarantee
    )
}

/// As [`from_code`], for an error of the client.
pub(crate) fn from_client(error: &KafkaError, operation: &'static str) -> Error {
    let code = match error {
        // The client does not give the code of these itself.
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    match (code, error) {
        (Some(code), _) => from_code(code, operation),
        (None, KafkaError::Canceled) => Error::temporary("the client gave the call up")
            .with_code(Code::Cancelled)
            .with_operation(operation),
        (None, error) => {
            let message = match error {
                // Its own text would repeat the setting's value, which may be a secret.
                KafkaError::ClientConfig(_, why, key, _) => {
                    format!("setting {key}: {}", missing_feature(why))
                }
                KafkaError::ClientCreation(why) => missing_feature(why).to_owned(),
                other => other.to_string(),
            };
            Error::invalid_input(message).with_operation(operation)
        }
    }
}

/// Says which cargo feature a setting needs that was left out of the build.
fn missing_feature(why: &str) -> &str {
    if why.contains("libzstd not available") {
        "needs the feature `zstd` of cqi-kafka, which is off in this build"
    } else if why.contains("not available at build time")
        || why.contains("OpenSSL")
        || why.contains("not built")
    {
        "needs the feature `ssl` of cqi-kafka, which is off in this build"
    } else {
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ml_msg_8_each_error_is_permanent_or_passes() {
        use RDKafkaErrorCode as E;
        for (code, kind, finer, unknown) in [
            (E::MessageTimedOut, Kind::Temporary, Some(Code::Timeout), true),
            (E::PurgeQueue, Kind::Temporary, Some(Code::Cancelled), false),
            (E::PurgeInflight, Kind::Temporary, Some(Code::Cancelled), true),
            (E::QueueFull, Kind::Temporary, Some(Code::Exhausted), false),
            (
                E::NotLeaderForPartition,
                Kind::Temporary,
                Some(Code::Unavailable),
                false,
            ),
            (
                E::NotEnoughReplicas,
                Kind::Temporary,
                Some(Code::Unavailable),
                false,
            ),
            (
                E::NotEnoughReplicasAfterAppend,
                Kind::Temporary,
                Some(Code::Unavailable),
                true,
            ),
            (
                E::MessageSizeTooLarge,
                Kind::InvalidInput,
                Some(Code::TooLarge),
                false,
            ),
            (E::UnknownTopicOrPartition, Kind::NotFound, None, false),
            (
                E::TopicAuthorizationFailed,
                Kind::Unauthorized,
                Some(Code::PermissionDenied),
                false,
            ),
            (E::SaslAuthenticationFailed, Kind::Unauthorized, None, false),
        ] {
            let error = from_code(code, "event_bus.publish");
            assert_eq!((error.kind(), error.code()), (kind, finer), "{error}");
            assert_eq!(error.may_have_applied(), unknown, "{error}");
            let error = from_code(code, "event_bus.topic");
            assert!(!error.may_have_applied(), "no event was sent: {error}");
        }
    }

    #[test]
    fn a_topic_that_cannot_be_made_now_may_be_made_later() {
        use RDKafkaErrorCode as E;
        for (error, kind, finer) in [
            (
                KafkaError::AdminOp(E::OperationTimedOut),
                Kind::Temporary,
                Some(Code::Timeout),
            ),
            (
                KafkaError::AdminOp(E::BrokerTransportFailure),
                Kind::Temporary,
                Some(Code::Unavailable),
            ),
            (
                KafkaError::AdminOp(E::ClusterAuthorizationFailed),
                Kind::Unauthorized,
                Some(Code::PermissionDenied),
            ),
            (KafkaError::Canceled, Kind::Temporary, Some(Code::Cancelled)),
            // The client takes no such topic or limit.
            (KafkaError::AdminOpCreation("no".into()), Kind::InvalidInput, None),
        ] {
            let error = from_client(&error, "event_bus.topic");
            assert_eq!((error.kind(), error.code()), (kind, finer), "{error}");
        }
    }
}
