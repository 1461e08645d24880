use super::*;

fn masker() -> Masker {
    Masker::new(&Redaction::default())
}

#[test]
fn l_02_secrets_in_texts_are_hidden() {
    let masker = masker();
    for (text, shown) in [
        ("password=hunter2 user=bob", "password=*** user=bob"),
        ("PASSWORD: hunter2, next", "PASSWORD: ***, next"),
        (
            "/login?user=bob&access_token=abc123&x=1",
            "/login?user=bob&access_token=***&x=1",
        ),
        (
            r#"{"user":"bob","password":"hun\"ter2","n":1}"#,
            r#"{"user":"bob","password":"***","n":1}"#,
        ),
        (
            r#"{"a":{"apiKey" : "k"},"b":[{"secret":7}]}"#,
            r#"{"a":{"apiKey" : "***"},"b":[{"secret":***}]}"#,
        ),
        (
            r#"body: "{\"password\":\"hunter2\",\"a\":1}""#,
            r#"body: "{\"password\":\"***\",\"a\":1}""#,
        ),
        (
            r#"body: "{\"password\":\"hun\\\"ter2\",\"a\":1}""#,
            r#"body: "{\"password\":\"***\",\"a\":1}""#,
        ),
        (
            r#"body: "{\"cause\":\"{\\\"password\\\":\\\"hunter2\\\",\\\"a\\\":1}\"}""#,
            r#"body: "{\"cause\":\"{\\\"password\\\":\\\"***\\\",\\\"a\\\":1}\"}""#,
        ),
        (
            r#"\\\\\\\"token\\\\\\\": \\\\\\\"hunter2\\\\\\\", \\\\\\\"a"#,
            r#"\\\\\\\"token\\\\\\\": \\\\\\\"***\\\\\\\", \\\\\\\"a"#,
        ),
        (
            r#"Config { password: "hunter2", size: 1 }"#,
            r#"Config { password: "***", size: 1 }"#,
        ),
        (
            r#"Config { token: Some("hunter2"), size: 1 }"#,
            r#"Config { token: Some("***"), size: 1 }"#,
        ),
        (r"token=\(abc) x", r"token=***) x"),
        (
            r#"tokens: 3, cookies: ["a", "b"], size"#,
            "tokens: 3, cookies: ***, size",
        ),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ("authorization=Bearer abc.def-123 x", "authorization=*** x"),
        ("cookie: a=b; c=d\r\nhost: x", "cookie: ***\r\nhost: x"),
        ("got bearer s3cr3t-t0ken back", "got bearer *** back"),
        ("sent Basic dXNlcjpwYXNz!", "sent Basic ***!"),
        ("jwt eyJhbGciOiJI.eyJzdWIi.c2ln-x_y.", "jwt ***"),
        (
            "postgres://app:hunter2@db:5432/x failed",
            "postgres://app:***@db:5432/x failed",
        ),
        ("redis://:p/word@cache and a", "redis://:***@cache and a"),
        (
            "nats://a:b@h:1,nats://c:d@h:2",
            "nats://a:***@h:1,nats://c:***@h:2",
        ),
        (
            "paid with 4111 1111 1111 1111 200 times",
            "paid with *** 200 times",
        ),
        ("card 5555-5555-5555-4444.", "card ***."),
        ("amex 378282246310005", "amex ***"),
        ("card_number=4", "card_number=***"),
    ] {
        assert_eq!(masker.masked(text), shown, "{text}");
    }
}

#[test]
fn what_is_no_secret_stays() {
    let masker = masker();
    for text in [
        "",
        "request done",
        "path=/api/v1/users status=200",
        "http://host:8080/a?b=c@d",
        "http://[::1]:80/x",
        "bearer authentication is required",
        "the basic authentication scheme",
        "a bearer of news",
        "token::Kind tokens: 7 tokens_used=9",
        "password=",
        "password",
        "eyJust a word",
        "4111 1111 1111 1112",
        "1767322845678 1767322845678000000",
        "order 4111111111111111a",
        "0af7651916cd43dd8448eb211c80319c",
        "019b8f6e-4111-7111-8111-111111111111",
        "bob@example.com",
        "12:30:00 = noon",
    ] {
        assert_eq!(masker.masked(text), text);
    }
}

#[test]
fn l_02_e_mail_addresses_are_hidden_when_that_is_asked_for() {
    let masker = Masker::new(&Redaction {
        emails: true,
        ..Redaction::default()
    });
    assert_eq!(
        masker.masked("from bob.x+1@example.co.uk. and @home, a@b"),
        "from ***. and @home, a@b"
    );
}

#[test]
fn card_numbers_are_hidden_as_numbers_too() {
    let masker = masker();
    assert!(masker.hides_number(4_111_111_111_111_111));
    for number in [0, 4_111_111_111_111_112, 1_767_322_845_678, u128::MAX] {
        assert!(!masker.hides_number(number), "{number}");
    }
}

#[test]
fn without_patterns_texts_stay() {
    let masker = Masker::new(&Redaction {
        patterns: false,
        ..Redaction::default()
    });
    assert_eq!(masker.masked("password=x"), "password=x");
    assert!(masker.hides("password") && !masker.hides_number(4_111_111_111_111_111));
}

/// Whatever comes in: no panic, no endless loop, and what is hidden once stays so.
#[test]
fn l_02_any_text_is_survived() {
    const PARTS: [&str; 34] = [
        "password",
        "token",
        "=",
        ":",
        "//",
        "@",
        "\"",
        "\\",
        "'",
        "[",
        "{",
        "(",
        "]",
        "}",
        ")",
        " ",
        "\n",
        "é",
        "🦀",
        "\u{200b}",
        "eyJ",
        ".",
        "bearer ",
        "Basic ",
        "4111",
        "1111",
        "-",
        ",",
        "Some(",
        "http://",
        "a",
        "Z",
        "authorization",
        "cookie",
    ];
    let masker = Masker::new(&Redaction {
        emails: true,
        ..Redaction::default()
    });
    let mut state = 17_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        let text: String = (0..random(12)).map(|_| PARTS[random(PARTS.len())]).collect();
        let masked = masker.masked(&text);
        assert!(masked.len() <= text.len() * 3, "{text} {masked}");
    }
}

#[test]
fn a_hostile_text_takes_time_in_proportion_to_its_length() {
    let masker = masker();
    let started = tokio::time::Instant::now();
    for part in [
        "a://",
        "eyJ.",
        "basic b-",
        "p-p-p=",
        "token:[",
        "4111 ",
        "token: \"",
        "bearer ",
        "a@a",
    ] {
        drop(masker.masked(&part.repeat(200_000)));
    }
    // The square would be hours.
    assert!(started.elapsed() < std::time::Duration::from_secs(60));
}
