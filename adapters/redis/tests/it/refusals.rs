//! What a server refuses, and servers that are none of Redis.

use std::{sync::Arc, time::Duration};

use cqi_core::{
    Code, Error, Kind,
    cache::{Cache, CacheExt as _, ReadThrough},
    event::Json,
    registry::Registry,
};
use cqi_redis::{RedisCache, RedisOptions, RedisRegistry, RedisRegistryOptions};
use cqi_testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
    time::Instant,
};

use crate::kit::{FOR_EVER, ask, cache, options, own, raw};

async fn refusal(options: RedisOptions) -> Error {
    let (limit, server) = (options.connection_timeout, options.nodes[0].1.to_string());
    let began = Instant::now();
    let error = RedisCache::connect(options).await.unwrap_err();
    assert!(
        began.elapsed() < limit + Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    let shown = format!("{error} {error:?} {}", error.chain());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(error.to_string().contains(&server), "{error}");
    error
}

#[tokio::test]
async fn an_absent_server_is_named_in_time() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = refusal(options(address)).await;
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Unavailable))
    );
    let unknown = RedisOptions {
        nodes: vec![("nowhere.invalid".into(), 6379)],
        ..options(address)
    };
    let error = refusal(unknown).await;
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Unavailable))
    );
}

#[tokio::test]
async fn what_is_no_redis_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let web = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    };
    let check = async {
        let error = refusal(options(address)).await;
        assert_eq!(error.kind(), Kind::Permanent, "{error}");
        let error = refusal(RedisOptions {
            tls: true,
            ..options(address)
        })
        .await;
        assert_eq!(error.kind(), Kind::Permanent, "{error}");
        assert!(error.to_string().contains("TLS"), "{error}");
    };
    tokio::select! {
        () = web => {}
        () = check => {}
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = refusal(options(listener.local_addr().unwrap())).await;
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Unavailable))
    );
}

#[tokio::test]
async fn wrong_credentials_are_unauthorized_and_never_shown() {
    let Some(server) = own(&["requirepass canary-right"]) else {
        return;
    };
    let good = || RedisOptions {
        password: "canary-right".into(),
        ..options(server.address())
    };
    for bad in [
        RedisOptions {
            password: "canary-wrong".into(),
            ..good()
        },
        RedisOptions {
            password: "".into(),
            ..good()
        },
        RedisOptions {
            user: "canary-user".into(),
            ..good()
        },
    ] {
        let error = refusal(bad).await;
        assert_eq!(error.kind(), Kind::Unauthorized, "{error}");
    }
    let cache = RedisCache::connect(good()).await.unwrap();
    assert!(!format!("{cache:?}").contains("canary"));
    cache.ping().await.unwrap();
    // The registry logs in by another command of the protocol.
    let registry = |redis| {
        RedisRegistry::connect(RedisRegistryOptions {
            redis,
            ..Default::default()
        })
    };
    registry(good()).await.unwrap().ping().await.unwrap();
    for password in ["canary-wrong", ""] {
        let bad = RedisOptions {
            password: password.into(),
            ..good()
        };
        let error = registry(bad).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unauthorized, "{error}");
        assert!(!format!("{error:?} {}", error.chain()).contains("canary"));
    }
}

#[tokio::test]
async fn what_the_acl_forbids_is_permission_denied() {
    let Some(server) = own(&["user reader on >canary ~mine:* +get +ping +select"]) else {
        return;
    };
    let reader = RedisOptions {
        user: "reader".into(),
        password: "canary".into(),
        ..options(server.address())
    };
    let cache = RedisCache::connect(reader).await.unwrap();
    assert_eq!(cache.get("mine:a").await.unwrap(), None);
    for error in [
        cache.set("mine:a", "v".into(), FOR_EVER).await.unwrap_err(),
        cache.get("other").await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Unauthorized, Some(Code::PermissionDenied))
        );
        assert!(!error.may_have_applied());
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_chosen_now_is_told_from_one_that_may_not_be() {
    let Some(server) = own(&["user reader on >canary ~* +get +ping"]) else {
        return;
    };
    let second = || RedisOptions {
        database: 1,
        ..options(server.address())
    };
    let reader = RedisOptions {
        user: "reader".into(),
        password: "canary".into(),
        ..second()
    };
    let error = refusal(reader).await;
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unauthorized, Some(Code::PermissionDenied)),
        "{error}"
    );
    let _: () = ask(server.address(), &["CONFIG", "SET", "lua-time-limit", "1"]).await;
    let mut connection = raw(server.address()).await;
    let mut script = JoinSet::new();
    script.spawn(async move {
        let mut command = redis::cmd("EVAL");
        command.arg("while true do end").arg(0);
        command.query_async::<()>(&mut connection).await
    });
    let busy = eventually(
        "the server is busy",
        Duration::from_secs(5),
        async || match RedisCache::connect(options(server.address())).await {
            Err(error) if error.to_string().contains("busy") => Ok(()),
            other => Err(other),
        },
    );
    busy.await.unwrap();
    let error = refusal(second()).await;
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Temporary, Some(Code::Unavailable)),
        "{error}"
    );
    let _: () = ask(server.address(), &["SCRIPT", "KILL"]).await;
    script.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(RedisCache::connect(second()).await.is_ok());
}

#[tokio::test]
async fn databases_are_apart_and_an_unknown_one_is_invalid() {
    let Some(server) = own(&["databases 2"]) else {
        return;
    };
    let database = |database| RedisOptions {
        database,
        ..options(server.address())
    };
    let first = RedisCache::connect(database(0)).await.unwrap();
    let second = RedisCache::connect(database(1)).await.unwrap();
    first.set("k", "v".into(), FOR_EVER).await.unwrap();
    assert_eq!(second.get("k").await.unwrap(), None);
    assert_eq!(refusal(database(2)).await.kind(), Kind::InvalidInput);
}

#[tokio::test]
async fn a_key_of_another_type_is_refused_and_kept() {
    let Some(server) = own(&[]) else { return };
    let cache = cache(&server).await;
    let _: i64 = ask(server.address(), &["RPUSH", "list", "canary"]).await;
    for error in [
        cache.get("list").await.unwrap_err(),
        cache.add("list", 1, None).await.unwrap_err(),
        cache
            .add("list", 1, Some(Duration::from_secs(1)))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::InvalidInput, Some(Code::FailedPrecondition)),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("canary"));
    }
    assert_eq!(ask::<i64>(server.address(), &["LLEN", "list"]).await, 1);
    assert!(cache.delete("list").await.unwrap());
}

#[tokio::test]
async fn k_04_a_key_of_another_type_costs_typed_reads_one_miss() {
    let Some(server) = own(&[]) else { return };
    let cache = cache(&server).await;
    let _: i64 = ask(server.address(), &["RPUSH", "list", "canary"]).await;
    assert_eq!(cache.get_as::<Json<i32>>("list").await.unwrap(), None);
    assert!(!cache.exists("list").await.unwrap());
    let _: i64 = ask(server.address(), &["RPUSH", "list", "canary"]).await;
    let read = ReadThrough::new(Arc::new(cache.clone()));
    let ttl = Duration::from_secs(60);
    let loaded = read.get_or_load("list", ttl, || async { Ok(Json(7)) }).await;
    assert_eq!(loaded.unwrap(), Json(7));
    assert_eq!(cache.get_as("list").await.unwrap(), Some(Json(7)));
}

#[tokio::test]
async fn a_value_over_a_configured_limit_is_refused() {
    let Some(server) = own(&[]) else { return };
    let cache = RedisCache::connect(RedisOptions {
        max_value: 8,
        ..options(server.address())
    })
    .await
    .unwrap();
    assert_eq!(cache.capabilities().max_value, 8);
    let error = cache.set("k", vec![0; 9].into(), FOR_EVER).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::InvalidInput, Some(Code::TooLarge))
    );
    assert!(cache.set("k", vec![0; 8].into(), FOR_EVER).await.unwrap());
}
