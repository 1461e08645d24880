//! Who gets in, and what those hear who do not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    routing::{get, post},
};
use cqi_core::{
    Code, Error,
    auth::{
        ApiKeys, AuthContext, AuthType, Breaker, BreakerOptions, Requirement, Verifier, current, refused,
    },
    secret::Secret,
};
use cqi_http::{AuthLayer, AuthOptions, Caller, HttpOptions, HttpServer, probe_router, require};

use crate::support::{Answer, Client, SHORT, options, start};

const KEY: &str = "0123456789abcdef";
const REFUSED: &str = r#"{"error":"credentials are missing or invalid","code":"UNAUTHORIZED"}"#;

/// Answers by the credential, and counts how often it was asked.
#[derive(Debug, Default)]
struct Fake(AtomicUsize);

#[async_trait]
impl Verifier for Fake {
    async fn verify(&self, credential: &Secret) -> cqi_core::Result<AuthContext> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let caller = AuthContext::new(AuthType::Jwt).with_user("ada");
        let roles =
            |role: &str| serde_json::Map::from_iter([("roles".to_owned(), serde_json::json!([role]))]);
        match credential.expose() {
            "user" => Ok(caller),
            "admin" => Ok(caller.with_claims(roles("admin"))),
            "down" => Err(Error::temporary("the key server 10.0.0.1 is down")),
            "busy" => Err(Error::temporary("busy").with_retry_after(Duration::from_secs(7))),
            "broken" => Err(Error::permanent("a bug")),
            "hang" => std::future::pending().await,
            "banned" => Err(Error::unauthorized("banned by rule 7").with_code(Code::PermissionDenied)),
            "expired" => Err(Error::unauthorized("expired at noon")),
            "panic" => panic!("a secret"),
            _ => Err(refused()),
        }
    }
}

fn router() -> Router {
    let admin = Router::new()
        .route("/admin", get(|| async { "admin" }))
        .route_layer(require(Requirement::role("admin")));
    Router::new()
        .route(
            "/whoami",
            get(|Caller(caller): Caller| async move {
                assert_eq!(current().unwrap(), caller, "known below the handler too");
                caller.user_id.clone().unwrap_or_default()
            }),
        )
        .route("/write", post(|| async { "written" }))
        .route(
            "/maybe",
            get(|caller: Option<Caller>| async move { caller.is_some().to_string() }),
        )
        .route("/health/{other}/admin", get(|| async { "secret" }))
        .route("/healthy", get(|| async { "secret" }))
        .merge(admin)
        .merge(probe_router(&cqi_core::health::Health::new()))
}

async fn guarded(
    change: impl FnOnce(&mut HttpOptions),
) -> (Client, Arc<Fake>, cqi_core::service::ServiceHandle) {
    let verifier = Arc::new(Fake::default());
    let mut options = HttpOptions {
        auth: AuthOptions {
            failed_logins: 0,
            ..AuthOptions::default()
        },
        ..options()
    };
    change(&mut options);
    let server = HttpServer::new("http", router(), options).unwrap();
    let asked: Arc<dyn Verifier> = Arc::<Fake>::clone(&verifier);
    let (address, handle) = start(server.auth(asked).unwrap()).await;
    (Client::connect(address).await, verifier, handle)
}

fn bearer(credential: &str) -> String {
    format!("Authorization: Bearer {credential}\r\n")
}

#[track_caller]
fn is_refused(answer: &Answer, what: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (401, REFUSED), "{what}");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
}

#[tokio::test]
async fn auth_3_6_a_verified_caller_is_known_to_the_handler() {
    let (mut client, _verifier, _handle) = guarded(|_| {}).await;
    let answer = client.get_with("/whoami", &bearer("user")).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ada"));
    let answer = client.get_with("/maybe", &bearer("user")).await;
    assert_eq!(answer.body, "true");
}

#[tokio::test]
async fn auth_4_a_21_api_keys_are_a_verifier() {
    let keys = ApiKeys::parse([Secret::new(format!("billing:{KEY}"))]).unwrap();
    let server = HttpServer::new("http", router(), options()).unwrap();
    let (address, _handle) = start(server.auth(Arc::new(keys)).unwrap()).await;
    let mut client = Client::connect(address).await;
    assert_eq!(client.get_with("/maybe", &bearer(KEY)).await.body, "true");
    for wrong in ["0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"] {
        is_refused(&client.get_with("/maybe", &bearer(wrong)).await, wrong);
    }
}

#[tokio::test]
async fn auth_7_ml_auth_5_every_refusal_is_the_same() {
    let (mut client, _verifier, _handle) = guarded(|_| {}).await;
    let long = bearer(&"a".repeat(9000));
    let two = bearer("user") + &bearer("user");
    for lines in [
        "",
        "Authorization:\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Basic dXNlcg==\r\n",
        "Authorization: user\r\n",
        "X-Api-Key: user\r\n",
        "Cookie: token=user\r\n",
        &bearer("wrong"),
        &bearer("expired"),
        &bearer("user user"),
        &long,
        &two,
    ] {
        is_refused(&client.get_with("/whoami", lines).await, lines);
    }
}

#[tokio::test]
async fn deny_by_default_what_does_not_exist_is_guarded_too() {
    let (mut client, _verifier, _handle) = guarded(|_| {}).await;
    for path in ["/nowhere", "/", "/write", "/whoami/"] {
        is_refused(&client.get(path).await, path);
    }
    assert_eq!(client.get_with("/nowhere", &bearer("user")).await.status, 404);
    assert_eq!(client.get_with("/write", &bearer("user")).await.status, 405);
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    is_refused(&client.answer().await.unwrap(), "OPTIONS *");
}

#[tokio::test]
async fn ml_auth_4_open_paths_are_open_and_no_others() {
    let (mut client, verifier, _handle) = guarded(|_| {}).await;
    for path in [
        "/health",
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/health?x=/admin",
    ] {
        assert_eq!(client.get(path).await.status, 200, "{path}");
        assert_eq!(
            client.get_with(path, &bearer("wrong")).await.status,
            200,
            "{path}"
        );
    }
    assert_eq!(verifier.0.load(Ordering::SeqCst), 0);
    for path in [
        "/health/../admin",
        "/health/%2e%2e/admin",
        "/health/live/../../admin",
        "/healthy",
        "//health",
        "/health/",
        "/./health",
        "/%68ealth",
        "/health%2flive",
        "/health;/admin",
        "/HEALTH",
        "/health\\live",
    ] {
        is_refused(&client.get(path).await, path);
    }
    let (mut client, _verifier, _handle) =
        guarded(|options| options.auth.open_paths = vec!["/maybe".to_owned()]).await;
    assert_eq!(client.get("/maybe").await.body, "false");
    assert_eq!(client.get("/health").await.status, 401);
}

#[tokio::test]
async fn ml_auth_4_an_open_path_is_whole_in_nested_routers_too() {
    let layer = |open: &str| {
        let options = AuthOptions {
            open_paths: vec![open.to_owned()],
            ..AuthOptions::default()
        };
        AuthLayer::new(Arc::new(Fake::default()), &options).unwrap()
    };
    let open = || Router::new().route("/open", get(|| async { "open" }));
    let routes = Router::new()
        .nest("/short", open().layer(layer("/open")))
        .nest("/whole", open().layer(layer("/whole/open")));
    let (address, _handle) = crate::support::serve(routes, options()).await;
    let mut client = Client::connect(address).await;
    is_refused(&client.get("/short/open").await, "only /open itself was opened");
    assert_eq!(client.get("/whole/open").await.body, "open");
}

#[tokio::test]
async fn a_22_a_credential_in_the_query_is_not_looked_at() {
    let (mut client, verifier, _handle) = guarded(|_| {}).await;
    for path in [
        "/whoami?access_token=user",
        "/whoami?api_key=user&authorization=Bearer%20user",
    ] {
        is_refused(&client.get(path).await, path);
    }
    assert_eq!(verifier.0.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_24_a_client_cannot_name_itself() {
    let (mut client, _verifier, _handle) = guarded(|_| {}).await;
    is_refused(
        &client.get_with("/whoami", "X-User-Id: admin\r\n").await,
        "x-user-id",
    );
}

#[tokio::test]
async fn a_26_a_verifier_that_cannot_decide_lets_nobody_in() {
    let (mut client, _verifier, _handle) = guarded(|options| options.auth.timeout = SHORT).await;
    const UNDECIDED: &str = r#"{"error":"the caller cannot be verified now","code":"TEMPORARY"}"#;
    for (credential, retry_after) in [("down", "1"), ("busy", "7"), ("hang", "1")] {
        let answer = client.get_with("/whoami", &bearer(credential)).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, UNDECIDED),
            "{credential}"
        );
        assert_eq!(answer.header("retry-after"), Some(retry_after), "{credential}");
    }
    for credential in ["broken", "panic"] {
        let answer = client.get_with("/whoami", &bearer(credential)).await;
        assert_eq!(answer.status, 500, "{credential}");
        assert!(
            answer.body.contains("internal error"),
            "{credential}: {}",
            answer.body
        );
    }
}

#[tokio::test]
async fn p_auth_2_what_a_known_caller_may_not_do_is_403() {
    let (mut client, _verifier, _handle) = guarded(|_| {}).await;
    const DENIED: &str = r#"{"error":"the caller may not do this","code":"PERMISSION_DENIED"}"#;
    for (path, credential) in [("/admin", "user"), ("/whoami", "banned")] {
        let answer = client.get_with(path, &bearer(credential)).await;
        assert_eq!((answer.status, answer.body.as_str()), (403, DENIED));
        assert_eq!(answer.header("www-authenticate"), None);
    }
    assert_eq!(client.get_with("/admin", &bearer("admin")).await.body, "admin");
    is_refused(&client.get("/admin").await, "nobody");
    // Without a layer that authenticates, nobody passes.
    let (address, _handle) = crate::support::serve(router(), options()).await;
    let mut client = Client::connect(address).await;
    is_refused(&client.get_with("/admin", &bearer("admin")).await, "no layer");
    is_refused(&client.get("/whoami").await, "no layer");
}

#[tokio::test]
async fn a_25_failed_logins_are_limited_by_source_and_right_ones_still_pass() {
    let (mut client, _verifier, _handle) = guarded(|options| options.auth.failed_logins = 3).await;
    for _ in 0..3 {
        is_refused(&client.get_with("/whoami", &bearer("wrong")).await, "at first");
    }
    for number in 0..10 {
        let answer = client
            .get_with("/whoami", &bearer(&format!("wrong{number}")))
            .await;
        assert_eq!(answer.status, 429);
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(client.get_with("/whoami", &bearer("user")).await.status, 200);
    is_refused(&client.get("/whoami").await, "no credential is no failed login");
}

#[tokio::test]
async fn a_25_an_id_that_was_wrong_too_often_is_refused_unasked() {
    let (mut client, verifier, _handle) = guarded(|options| options.auth.failed_logins = 3).await;
    for number in 0..1000 {
        let credential = bearer(&format!("billing.wrong{number}"));
        let answer = client.get_with("/whoami", &credential).await;
        if number < 3 {
            is_refused(&answer, "at first");
        } else {
            assert_eq!(answer.status, 429);
            assert!(answer.header("retry-after").is_some());
        }
    }
    assert_eq!(verifier.0.load(Ordering::SeqCst), 3);
    assert_eq!(
        client.get_with("/whoami", &bearer("user")).await.status,
        200,
        "another id"
    );
}

#[tokio::test]
async fn a_26_a_verifier_that_times_out_is_spared() {
    let options = BreakerOptions {
        timeout: SHORT,
        failures: 2,
        pause: Duration::from_secs(60),
    };
    let server = HttpServer::new("http", router(), crate::support::options()).unwrap();
    let breaker = Breaker::new(Fake::default(), options).unwrap();
    let (address, _handle) = start(server.auth(Arc::new(breaker)).unwrap()).await;
    let mut client = Client::connect(address).await;
    for _ in 0..2 {
        assert_eq!(client.get_with("/whoami", &bearer("hang")).await.status, 503);
    }
    // It would let this one in, and nobody is let in unasked.
    let answer = client.get_with("/whoami", &bearer("user")).await;
    assert_eq!(answer.status, 503);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(client.get("/health").await.status, 200);
}

#[tokio::test]
async fn auth_holds_without_the_standard_stack() {
    let server = HttpServer::new("http", router(), options()).unwrap().bare();
    let (address, _handle) = start(server.auth(Arc::new(Fake::default())).unwrap()).await;
    let mut client = Client::connect(address).await;
    is_refused(&client.get("/whoami").await, "nobody");
    assert_eq!(client.get_with("/whoami", &bearer("user")).await.body, "ada");
}
