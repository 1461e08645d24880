//! A service is short, and knows no adapter.

use super::{none, read};

/// FND-22, in statements of `main`.
const STATEMENTS: usize = 20;

/// The crates and types of the adapters that a service never names: configuration does.
const ADAPTERS: [&str; 12] = [
    "sqlx",
    "axum",
    "hyper",
    "cqi_http",
    "cqi_telemetry",
    "cqi_core",
    "Memory",
    "Sqlite",
    "Postgres",
    "Redis",
    "Nats",
    "Kafka",
];

#[test]
fn fnd_22_a_service_takes_at_most_twenty_statements() {
    let main = read("examples/quickstart/src/main.rs");
    let count = statements(body(&main.text, "async fn main()"));
    println!("main of the quickstart has {count} statements");
    assert!(count > 5, "{}: {count} statements: is this its main?", main.path);
    assert!(
        count <= STATEMENTS,
        "{}: main has {count} statements: at most {STATEMENTS} (FND-22)",
        main.path
    );
}

#[test]
fn fnd_1_the_quickstart_names_no_adapter() {
    let main = read("examples/quickstart/src/main.rs");
    none(&named(&main.path, &main.text));
}

#[test]
fn the_count_is_that_of_statements() {
    let text = "fn other() { a(); }\nasync fn main() {\n let a = S {\n  x: \"1;\",\n }; // one; two\n for b in a { g(b); h(\"; }\") }\n \
                run(|x| async move { x.await?; Ok(()) }).await\n}\nfn last() {}";
    // let; for, g, h; run, await?, Ok
    assert_eq!(statements(body(text, "async fn main()")), 7);
    assert_eq!(
        named(
            "x.rs",
            "use sqlx::Row;\nlet memory = 1; // Sqlite, unlike\nMemoryBus::default()"
        )
        .len(),
        2
    );
}

/// The text between the braces of this function.
fn body<'a>(text: &'a str, head: &str) -> &'a str {
    let after = &text[text.find(head).unwrap_or_else(|| panic!("no `{head}`"))..];
    let end = after
        .find("\n}")
        .expect("the end of a function at the start of a line");
    &after[after.find('{').unwrap() + 1..end]
}

/// Statements of a body: those that end in `;`, loops and conditions, and the last expression of each block.
fn statements(body: &str) -> usize {
    let code = code(&format!("{body}}}"));
    let mut count = 0;
    let mut last = ';';
    for c in code.chars().filter(|c| !c.is_whitespace()) {
        // A brace after a comma ends a literal over several lines, one after a brace or semicolon has been counted.
        count += usize::from(c == ';' || c == '}' && !";{},".contains(last));
        last = c;
    }
    let keywords = ["for", "while", "loop", "if", "match"];
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    count + words.filter(|word| keywords.contains(word)).count()
}

/// The text without comments and without what is in quotation marks.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    for line in text.lines() {
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => drop(chars.next()),
                '"' => quoted = !quoted,
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                _ if quoted => {}
                c => code.push(c),
            }
        }
        code.push('\n');
    }
    code
}

fn named(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, line) in code(text).lines().enumerate() {
        for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
            let found = ADAPTERS
                .iter()
                .find(|name| match name.starts_with(char::is_uppercase) {
                    true => word.starts_with(**name),
                    false => word == **name,
                });
            faults.extend(found.map(|_| {
                format!(
                    "{path}:{}: names `{word}`: adapters are chosen in config.yaml (FND-1)",
                    i + 1
                )
            }));
        }
    }
    faults
}
