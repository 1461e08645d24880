use super::*;

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] Error);

fn all() -> [(Error, Kind, u16, i32, &'static str); 5] {
    [
        (Error::permanent("x"), Kind::Permanent, 500, 13, "PERMANENT"),
        (Error::temporary("x"), Kind::Temporary, 503, 14, "TEMPORARY"),
        (Error::not_found("asset", 7), Kind::NotFound, 404, 5, "NOT_FOUND"),
        (
            Error::invalid_input("x"),
            Kind::InvalidInput,
            400,
            3,
            "INVALID_INPUT",
        ),
        (
            Error::unauthorized("x"),
            Kind::Unauthorized,
            401,
            16,
            "UNAUTHORIZED",
        ),
    ]
}

#[test]
fn err_1_2_6_7_each_constructor_gives_its_kind_and_statuses() {
    for (error, kind, http, grpc, name) in all() {
        assert_eq!(error.kind(), kind);
        assert_eq!(
            (error.http_status(), error.grpc_code(), error.wire_code()),
            (http, grpc, name)
        );
        let is = [
            error.is_permanent(),
            error.is_temporary(),
            error.is_not_found(),
            error.is_invalid_input(),
            error.is_unauthorized(),
        ];
        assert_eq!(is.iter().filter(|yes| **yes).count(), 1);
    }
}

#[test]
fn err_3_wrap_keeps_kind_code_flags_and_chain() {
    let inner = Error::temporary("cut off")
        .with_code(Code::Unavailable)
        .maybe_applied()
        .with_retry_after(Duration::from_secs(3))
        .with_source(std::io::Error::other("reset by peer"));
    let wrapped = inner.wrap("publish").wrap("place order");
    assert_eq!(
        (wrapped.kind(), wrapped.code()),
        (Kind::Temporary, Some(Code::Unavailable))
    );
    assert!(wrapped.may_have_applied());
    assert_eq!(wrapped.retry_after(), Some(Duration::from_secs(3)));
    assert_eq!(
        wrapped.chain().to_string(),
        "place order: publish: cut off: reset by peer"
    );
}

#[test]
fn err_4_kind_is_found_through_foreign_wrappers() {
    let error = Outer(Error::not_found("asset", "BTC").wrap("a").wrap("b"));
    assert_eq!(kind_of(&error), Kind::NotFound);
    assert_eq!(kind_of(&std::io::Error::other("x")), Kind::Permanent);
    assert_eq!(
        kind_of(&std::io::Error::other(Error::temporary("x"))),
        Kind::Temporary
    );
}

#[test]
fn err_5_any_error_can_be_typed_and_stays_reachable() {
    let error = Error::from_source(Kind::Temporary, "read", std::io::Error::other("disk"));
    let source = StdError::source(&error).unwrap();
    assert!(source.downcast_ref::<std::io::Error>().is_some());
}

#[test]
fn codes_refine_statuses() {
    let error = Error::permanent("x").with_code(Code::AlreadyExists);
    assert_eq!(
        (error.http_status(), error.grpc_code(), error.wire_code()),
        (409, 6, "ALREADY_EXISTS")
    );
    let error = Error::temporary("x").with_code(Code::Unavailable);
    assert_eq!((error.http_status(), error.grpc_code()), (503, 14));
}

#[test]
fn display_is_one_line() {
    let error = Error::invalid_input("bad\nkey\r\u{1b}[31m").with_context("key", "a\tb");
    assert_eq!(error.to_string(), "bad\\nkey\\r\\u{1b}[31m (key=a\\tb)");
}

#[test]
fn err_3_a_chain_is_one_line_and_says_each_cause_once() {
    #[derive(Debug)]
    struct Cause(&'static str, Option<Box<Self>>);
    impl fmt::Display for Cause {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Cause {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }
    let refused = Cause("refused", Some(Box::new(Cause("refused", None))));
    let error =
        Error::temporary("no connection").with_source(Cause("driver\nfailed", Some(Box::new(refused))));
    let shown = error.chain().to_string();
    assert_eq!(
        (shown.lines().count(), shown.matches("refused").count()),
        (1, 1),
        "{shown}"
    );
    assert!(shown.starts_with("no connection: driver"), "{shown}");
}
