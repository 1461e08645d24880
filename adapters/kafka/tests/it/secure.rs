//! Brokers that want TLS, a password and permissions.

use std::{collections::BTreeMap, fs, time::Duration};
#[cfg(feature = "ssl")]
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use cqi_core::{Code, Error, Kind as ErrorKind, secret::Secret};
#[cfg(feature = "ssl")]
use cqi_core::{
    event::{Event, EventBus as _, StartAt, Subscription},
    name::{Group, Topic, topic_name},
};
use cqi_kafka::{KafkaBus, KafkaOptions};
use cqi_testkit::fixture::{self, Kind, Options, Server};
#[cfg(feature = "ssl")]
use cqi_testkit::unique;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::time::Instant;
#[cfg(feature = "ssl")]
use tokio::time::timeout;

/// How long a client tries to connect.
const LIMIT: Duration = Duration::from_secs(4);

/// A broker with a listener of each kind.
#[cfg_attr(not(feature = "ssl"), allow(dead_code))] // some of it is for clients with TLS only
struct Secure {
    _server: Server,
    plain: String,
    tls: String,
    sasl: String,
    files: TempDir,
}

impl Secure {
    fn start() -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            fs::write(files.path().join(name), authority.pem()).unwrap();
            authority
        };
        let ours = authority("ours.pem");
        authority("another.pem");
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &ours)
            .unwrap();
        let store = files.path().join("broker.pem");
        fs::write(&store, key.serialize_pem() + &certificate.pem() + &ours.pem()).unwrap();

        let [controller, tls, sasl] = [(); 3].map(|()| fixture::free_address().unwrap().to_string());
        let reached = format!("PLAINTEXT://{{address}},SSL://{tls},SASL_SSL://{sasl}");
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
        let lines = [
            format!("listeners={reached},CONTROLLER://{controller}"),
            format!("advertised.listeners={reached}"),
            format!("controller.quorum.voters=1@{controller}"),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL".into(),
            "ssl.keystore.type=PEM".into(),
            format!("ssl.keystore.location={}", store.display()),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512".into(),
            format!("listener.name.sasl_ssl.plain.sasl.jaas.config={login} user_admin=\"right\" user_guest=\"right\";"),
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;".into(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".into(),
            "super.users=User:ANONYMOUS;User:admin".into(),
        ];
        let options = lines.into_iter().fold(Options::new(), Options::line);
        let server = fixture::require_own(Kind::Kafka, &options)?;
        Some(Self {
            plain: server.address().to_string(),
            _server: server,
            tls,
            sasl,
            files,
        })
    }

    fn options(&self, broker: &str, properties: &[(&str, &str)]) -> KafkaOptions {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), Secret::from(*value));
        KafkaOptions {
            brokers: vec![broker.to_owned()],
            connection_timeout: LIMIT,
            publish_timeout: LIMIT,
            properties: properties.iter().map(own).collect::<BTreeMap<_, _>>(),
            ..KafkaOptions::default()
        }
    }

    #[cfg(feature = "ssl")]
    fn authority(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }
}

/// The error of a connection that can't be had. It comes in time, and names the server.
async fn refused(options: KafkaOptions) -> Error {
    let (asked, broker) = (Instant::now(), options.brokers[0].clone());
    let error = KafkaBus::connect(options).await.unwrap_err();
    assert!(asked.elapsed() < LIMIT + Duration::from_secs(1), "{error}");
    assert!(error.to_string().contains(&broker), "{error}");
    error
}

/// A client without TLS is hung up on without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_tls_learns_what_may_be_wrong() {
    let Some(kafka) = Secure::start() else { return };
    for broker in [&kafka.tls, &kafka.sasl] {
        let error = refused(kafka.options(broker, &[])).await;
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Temporary, Some(Code::Unavailable)),
            "{error}"
        );
        assert!(error.to_string().contains("security.protocol"), "{error}");
    }
    #[cfg(not(feature = "ssl"))]
    {
        let error = KafkaBus::connect(kafka.options(&kafka.tls, &[("security.protocol", "SSL")]));
        let error = error.await.unwrap_err();
        assert!(
            error.is_invalid_input() && error.to_string().contains("`ssl`"),
            "{error}"
        );
    }
}

#[cfg(feature = "ssl")]
#[tokio::test(flavor = "multi_thread")]
async fn certificates_passwords_and_permissions_are_checked() {
    let Some(kafka) = Secure::start() else { return };
    let (ours, another) = (kafka.authority("ours.pem"), kafka.authority("another.pem"));
    let tls = ("security.protocol", "SSL");
    let trusted = kafka.options(&kafka.tls, &[tls, ("ssl.ca.location", &ours)]);
    goes_round(trusted).await;
    let untrusted = refused(kafka.options(&kafka.tls, &[tls, ("ssl.ca.location", &another)])).await;
    assert_eq!(untrusted.kind(), ErrorKind::Unauthorized, "{untrusted}");
    assert!(untrusted.to_string().contains("ssl.ca.location"), "{untrusted}");
    let plain = refused(kafka.options(&kafka.plain, &[tls, ("ssl.ca.location", &ours)])).await;
    assert_eq!(plain.code(), Some(Code::Unavailable), "{plain}");
    assert!(plain.to_string().contains("PLAINTEXT"), "{plain}");

    let login = |user: &str, password: &str, mechanism| KafkaOptions {
        user: user.to_owned(),
        password: password.into(),
        ..kafka.options(
            &kafka.sasl,
            &[("ssl.ca.location", &ours), ("sasl.mechanism", mechanism)],
        )
    };
    goes_round(login("admin", "right", PLAIN)).await;
    for (user, mechanism) in [("admin", PLAIN), ("nobody", PLAIN), ("admin", SCRAM)] {
        let error = refused(login(user, "CANARY", mechanism)).await;
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert!(
            !format!("{error:?} {}", error.chain()).contains("CANARY"),
            "{error}"
        );
    }
    match kafka.add_user("admin", "right") {
        // SCRAM is what a user and a password mean unless told otherwise.
        Ok(()) => {
            goes_round(KafkaOptions {
                user: "admin".into(),
                password: "right".into(),
                ..kafka.options(&kafka.sasl, &[("ssl.ca.location", &ours)])
            })
            .await;
        }
        Err(why) => fixture::skip(&format!("no user with SCRAM can be made: {why}")),
    }

    let bus = KafkaBus::connect(login("guest", "right", PLAIN)).await.unwrap();
    let (topic, group) = (
        topic_name(&unique("topic")).unwrap(),
        Group::parse("guests").unwrap(),
    );
    let published = bus.publish(event(&topic)).await.unwrap_err();
    let subscribed = bus
        .subscribe(Subscription::new(topic.clone(), group))
        .await
        .unwrap_err();
    for error in [published, subscribed] {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Unauthorized, Some(Code::PermissionDenied)),
            "{error}"
        );
        assert!(error.to_string().contains(topic.as_str()), "{error}");
        assert!(!error.may_have_applied());
    }
    bus.close().await.unwrap();
}

#[cfg(feature = "ssl")]
const PLAIN: &str = "PLAIN";
#[cfg(feature = "ssl")]
const SCRAM: &str = "SCRAM-SHA-512";

#[cfg(feature = "ssl")]
fn event(topic: &Topic) -> Event {
    Event::builder(topic.clone()).payload("x").build().unwrap()
}

/// An event is published, and comes.
#[cfg(feature = "ssl")]
async fn goes_round(options: KafkaOptions) {
    let bus = KafkaBus::connect(options).await.unwrap();
    let (topic, group) = (
        topic_name(&unique("topic")).unwrap(),
        Group::parse(&unique("group")).unwrap(),
    );
    let sent = event(&topic);
    bus.publish(sent.clone()).await.unwrap();
    let oldest = Subscription::new(topic, group).with_start_at(StartAt::Oldest);
    let mut deliveries = bus.subscribe(oldest).await.unwrap();
    let came = timeout(Duration::from_secs(30), async {
        loop {
            match deliveries.next(1).await.unwrap() {
                Ok(batch) => return batch,
                // The coordinator of a first group is still made.
                Err(error) => assert!(error.is_temporary(), "{error}"),
            }
        }
    });
    let batch = came.await.expect("it comes");
    assert_eq!(batch[0].event().id(), sent.id());
    drop(batch);
    bus.close().await.unwrap();
}

#[cfg(feature = "ssl")]
impl Secure {
    /// Makes a user with a password that the broker keeps itself. Needs the Python client of Kafka.
    fn add_user(&self, user: &str, password: &str) -> Result<(), String> {
        const PROGRAM: &str = "import sys; from kafka.admin import *; \
            sys.exit(KafkaAdminClient(bootstrap_servers=sys.argv[1]).alter_user_scram_credentials([\
            UserScramCredentialUpsertion(sys.argv[2], 'SCRAM-SHA-512', sys.argv[3])])[sys.argv[2]])";
        let tools = std::env::var_os("CQI_TOOLS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools"),
            PathBuf::from,
        );
        let output = Command::new("python3")
            .args(["-c", PROGRAM, &self.plain, user, password])
            .env("PYTHONPATH", tools.join("python"))
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
