//! Nothing prints a secret, and nothing that a secret prints is read back.

use super::*;
use crate::secret::Secret;

const CANARY: &str = "s3cr3t-canary";

#[test]
fn c_02_c_11_no_secret_is_shown() {
    let url = format!("postgres://app:{CANARY}@db/x");
    let vars = [
        ("CQI_SERVICE_NAME", "x"),
        ("CQI_DATABASE_URL", url.as_str()),
        ("CQI_DATABASE_PASSWORD", CANARY),
        ("CQI_CACHE_URL", url.as_str()),
        ("CQI_CACHE_PASSWORD", CANARY),
        ("CQI_EVENT_BUS_URL", url.as_str()),
        ("CQI_EVENT_BUS_SERVERS", url.as_str()),
        ("CQI_EVENT_BUS_PASSWORD", CANARY),
        ("CQI_REGISTRY_URL", url.as_str()),
        ("CQI_REGISTRY_PASSWORD", CANARY),
        ("CQI_AUTH_API_KEYS", "name:s3cr3t-canary-0123"),
        (
            "CQI_TRACING_HEADERS",
            "authorization=Bearer s3cr3t-canary,x-team=a",
        ),
    ];
    let loaded = load_with("c.yaml", "", &vars).unwrap();
    assert_eq!(loaded.value.database.password.expose(), CANARY);
    assert_eq!(loaded.value.auth.api_keys.len(), 1);
    let headers = loaded.value.tracing.named_headers().unwrap();
    assert_eq!((headers.len(), headers[1].0.as_str()), (2, "x-team"));
    let shown = format!("{loaded:#?} {}", serde_json::to_string(&loaded.value).unwrap());
    assert!(!shown.contains(CANARY), "{shown}");

    // The same values where they break a rule or have the wrong type.
    let loader = Loader::new()
        .env_prefix("CQI")
        .vars(vars)
        .flag("database.backend", "sqlite");
    let debug = format!("{loader:?}");
    let error = loader.load::<Config>().unwrap_err();
    let wrong = "database: { password: [s3cr3t-canary], url: { a: s3cr3t-canary } }\ncache: { password: 123 }\n\
                 event_bus: { servers: [{ a: s3cr3t-canary }] }\ntracing: { headers: [s3cr3t-canary] }\n";
    let other = load_with("c.yaml", wrong, &[]).unwrap_err();
    let chains = format!(
        "{debug} {error:?} {} {other:?} {} {other}",
        error.chain(),
        other.chain()
    );
    assert!(!chains.contains(CANARY) && !chains.contains("123"), "{chains}");
    assert!(
        other
            .to_string()
            .contains("cache.password (c.yaml): expected a text, got ***"),
        "{other}"
    );
}

#[test]
fn c_02_a_url_where_a_list_of_urls_belongs_is_hidden() {
    for text in [
        "event_bus: { servers: 'nats://app:s3cr3t-canary@broker' }",
        "event_bus: { url: [ 'nats://app:s3cr3t-canary@broker' ] }",
        "auth: { api_keys: 'name:s3cr3t-canary' }",
        "tracing: { headers: 'authorization=s3cr3t-canary' }",
    ] {
        let error = load_with("c.yaml", text, &[]).unwrap_err();
        assert!(
            !format!("{error:?} {}", error.chain()).contains(CANARY),
            "{error}"
        );
    }
}

#[test]
fn c_02_a_secret_that_is_a_plain_text_is_known_by_its_name() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Vendor {
        vendor_api_key: String,
        vendor_name: String,
    }
    impl Validate for Vendor {
        fn validate(&self, violations: &mut Violations) {
            violations.rule(
                "vendor_api_key",
                self.vendor_api_key.len() == 32,
                "must be 32 long",
            );
            violations.rule("vendor_name", self.vendor_name.is_empty(), "must be empty");
        }
    }
    let error = Loader::new()
        .flag("vendor_api_key", CANARY)
        .flag("vendor_name", "shown")
        .load::<Vendor>()
        .unwrap_err();
    assert_eq!(
        rules(&error),
        [
            "vendor_api_key (flag vendor_api_key): must be 32 long, got ***",
            "vendor_name (flag vendor_name): must be empty, got shown"
        ]
    );
}

#[test]
fn c_02_the_description_shows_no_secret_and_reads_no_environment() {
    let (_folder, path) = file(
        "c.yaml",
        "service_name: ${NAME:shop}\n\
         database: { password: s3cr3t-canary, url: 'postgres://app:s3cr3t-canary@db/x' }\n\
         cache: { password: '${PW:}', host: '${PW:localhost}' }\n\
         event_bus: { servers: ['nats://app:s3cr3t-canary@broker'] }\n\
         auth: { api_keys: [ 'name:s3cr3t-canary' ] }\n",
    );
    let loader = Loader::new().embedded("registry: { password: s3cr3t-canary }");
    let loader = loader.file(path).env_prefix("CQI").vars([("PW", CANARY)]);
    let text = loader.describe::<Config>().unwrap();
    assert!(!text.contains(CANARY), "{text}");
    for line in [
        "CQI_SERVICE_NAME=shop",
        "CQI_CACHE_HOST=localhost",
        "CQI_DATABASE_PASSWORD=",
        "CQI_DATABASE_URL=postgres://***@db/x",
        "CQI_EVENT_BUS_SERVERS=nats://***@broker",
        "CQI_AUTH_API_KEYS=",
    ] {
        assert!(text.lines().any(|l| l.trim() == line), "{line} in {text}");
    }
}

#[test]
fn a_hidden_value_is_never_read_back() {
    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Hidden {
        pass: Option<Secret>,
        word: Secret,
        number: Option<u16>,
    }
    impl Validate for Hidden {
        fn validate(&self, _: &mut Violations) {}
    }
    let none = Loader::new().load::<Hidden>().unwrap().value;
    assert!(none.pass.is_none() && none.word.is_empty());
    let error = Loader::new()
        .flag("word", "***")
        .flag("pass", "***")
        .load::<Hidden>()
        .unwrap_err();
    assert_eq!(violations(&error).len(), 2);
    let (_folder, path) = file("c.json", r#"{"pass": 123, "number": "many"}"#);
    let error = Loader::new().file(path).load::<Hidden>().unwrap_err();
    let number = "number (c.json): expected an integer from 0 to 65535, got many";
    assert_eq!(rules(&error), [number, "pass (c.json): expected a text, got ***"]);
    let some = Loader::new()
        .flag("pass", "1")
        .flag("number", "2")
        .load::<Hidden>()
        .unwrap()
        .value;
    assert_eq!((some.pass.unwrap().expose(), some.number), ("1", Some(2)));
}
