//! Secrets never reach a log line or a span.

use cqi_core::{
    Error,
    config::{LogConfig, LogFormat},
};
use tracing::{info, info_span};

use super::Rig;

const CANARY: &str = "canary";

#[test]
fn l_02_l_03_p_log_3_one_masker_for_fields_messages_errors_and_spans() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let rig = Rig::with("info", format, 1.0);
        let failure = Error::permanent("cannot connect")
            .with_source(std::io::Error::other("postgres://app:canary@db/x refused"));
        let dynamic: &(dyn std::error::Error + 'static) = &failure;
        rig.run(|| {
            let span = info_span!(
                "s",
                api_key = CANARY,
                url = "http://a:canary@b/",
                late = tracing::field::Empty
            );
            let _inside = span.enter();
            span.record("late", tracing::field::display("password=canary"));
            info!(
                password = CANARY,
                userPassword = ?CANARY,
                http.request.header.authorization = %CANARY,
                token = 4_242_424_242_u64,
                error = dynamic,
                text = "token=canary",
                debug = ?Some("secret: canary"),
                card = 4_111_111_111_111_111_u64,
                "Authorization: Bearer {} and {}={}",
                CANARY,
                "password",
                CANARY
            );
        });
        let (text, spans) = (rig.text(), format!("{:?}", rig.spans()));
        for seen in [&text, &spans] {
            assert!(!seen.contains(CANARY) && seen.contains("***"), "{seen}");
        }
        assert!(
            !text.contains("4242424242") && !text.contains("4111111111111111"),
            "{text}"
        );
        assert!(text.contains("postgres://app:***@db/x refused"), "{text}");
    }
}

#[test]
fn l_02_the_configuration_says_what_else_is_hidden() {
    let log = LogConfig {
        redact_fields: vec!["Shoe-Size".into()],
        redact_emails: true,
        ..LogConfig::default()
    };
    let rig = Rig::configured(log, 1.0);
    rig.run(|| {
        let span = info_span!("s", customer_shoe_size = 4711).entered();
        info!(shoeSize = "canary", "canary@example.org has password=canary");
        drop(span);
    });
    for seen in [rig.text(), format!("{:?}", rig.spans())] {
        let leaked = seen.contains(CANARY) || seen.contains("4711");
        assert!(!leaked && seen.contains("***"), "{seen}");
    }

    let log = LogConfig {
        redact_patterns: false,
        ..LogConfig::default()
    };
    let rig = Rig::configured(log, 1.0);
    rig.run(|| info!(password = "hidden", "password=shown"));
    let text = rig.text();
    assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
}
