//! Documents name only what exists, and promise only what is kept.

use std::path::Path;

use super::{File, files, none, root};

#[test]
fn documents_name_only_what_exists() {
    let exists = |path: &str| root().join(path).exists();
    none(&all(|file| names(file, &exists)));
}

#[test]
fn bus_1_documents_promise_at_least_once() {
    none(&all(promises));
}

/// INT-1: all servers that tests and examples may need, and none that others can reach.
#[test]
fn int_1_the_compose_file_has_the_five_servers_on_the_loopback_address() {
    let compose = super::read("integration/docker-compose.yml");
    let (_, services) = compose.text.split_once("\nservices:\n").unwrap();
    let services = services
        .split_once("\nvolumes:")
        .map_or(services, |(services, _)| services);
    let name = |line: &str| {
        let name = line.strip_prefix("  ")?.strip_suffix(':')?;
        name.bytes()
            .all(|b| b.is_ascii_lowercase())
            .then(|| name.to_owned())
    };
    let mut names: Vec<_> = services.lines().filter_map(name).collect();
    names.sort();
    assert_eq!(names, ["jaeger", "kafka", "nats", "postgres", "redis"]);
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    // Such as "127.0.0.1:5432:5432".
    let quoted = services.split('"').skip(1).step_by(2);
    let ports: Vec<_> = quoted
        .filter(|text| text.matches(':').count() > 0 && text.rsplit(':').take(2).all(is_number))
        .collect();
    assert!(ports.len() >= names.len(), "{ports:?}");
    assert!(
        ports.iter().all(|port| port.starts_with("127.0.0.1:")),
        "{ports:?}"
    );
}

#[test]
fn examples_in_documents_are_compiled() {
    let mut faults = all(ignored);
    faults.extend(files("", &[".rs"]).iter().flat_map(ignored));
    none(&faults);
}

#[test]
fn the_checks_of_documents_find_what_they_look_for() {
    let bad = |text: &str| File {
        path: "docs/a.md".to_owned(),
        text: text.to_owned(),
    };
    let exists = |path: &str| ["docs/b.md", "core/src/lib.rs", "README.md"].contains(&path);
    let text = "[b](b.md#x) [root](../README.md) [web](https://example.org/a) `core/src/lib.rs`, `a/b`, `core/src/*.rs`\n\
                ```text\n[c](c.md)\n```\n[c](c.md) `core/src/gone.rs:12`";
    let found = names(&bad(text), &exists);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("docs/a.md:5: `c.md`") && found[1].contains("`core/src/gone.rs`"),
        "{found:?}"
    );
    assert_eq!(
        promises(&bad(concat!("It is handled ", "exactly once."))).len(),
        1
    );
    assert_eq!(
        promises(&bad(concat!("It is never delivered ", "exactly-once."))).len(),
        0
    );
    assert_eq!(ignored(&bad(concat!("```rust,", "ignore\n```"))).len(), 1);
    assert_eq!(ignored(&bad(concat!("/// ```", "ignore"))).len(), 1);
    assert_eq!(ignored(&bad("```sh\ngit ignore\n```")).len(), 0);
}

fn all(check: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    let documents = files("", &[".md"]);
    assert!(
        documents.iter().any(|file| file.path == "README.md"),
        "README.md is missing"
    );
    documents.iter().flat_map(check).collect()
}

/// Relative links, and paths of the repository in code style, that lead nowhere.
fn names(file: &File, exists: &impl Fn(&str) -> bool) -> Vec<String> {
    let folder = Path::new(&file.path).parent().unwrap().to_str().unwrap();
    let mut faults = Vec::new();
    let mut in_fence = false;
    for (i, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.map(|link| link.split(['#', ' ']).next().unwrap());
        let relative = links.filter(|link| !link.is_empty() && !link.contains(':'));
        let broken = relative.filter(|link| !exists(&resolve(folder, link)));
        let missing = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(repository_path)
            .filter(|path| !exists(path) && !exists(&resolve(folder, path)));
        for name in broken.chain(missing) {
            faults.push(format!(
                "{}:{}: `{name}` does not exist: correct or remove it",
                file.path,
                i + 1
            ));
        }
    }
    faults
}

/// The path, if this code is one below a folder of the repository. A line number is left out.
fn repository_path(code: &str) -> Option<&str> {
    const FOLDERS: [&str; 9] = [
        "adapters",
        "core",
        "cqi",
        "docs",
        "examples",
        "integration",
        "scripts",
        "testkit",
        ".ci",
    ];
    let path = code.split(':').next()?;
    let plain = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let (folder, rest) = path.split_once('/')?;
    (plain && !rest.is_empty() && FOLDERS.contains(&folder)).then_some(path)
}

/// `a/b` and `../c` are `a/c`.
fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// No bus, and no service on one, can deliver so; only a denial may say it.
fn promises(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, line) in file.text.lines().enumerate() {
        let lower = line.to_lowercase().replace('-', " ");
        let denied = lower
            .split(|c: char| !c.is_alphabetic())
            .any(|word| ["never", "not", "no"].contains(&word));
        if lower.contains(concat!("exactly", " once")) && !denied {
            faults.push(format!(
                "{}:{}: promises more than at-least-once delivery: say what holds",
                file.path,
                i + 1
            ));
        }
    }
    faults
}

/// Examples that nobody compiles.
fn ignored(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, line) in file.text.lines().enumerate() {
        let line = line.trim_start_matches(['/', '!', ' ']);
        let Some(kind) = line.strip_prefix("```") else {
            continue;
        };
        if kind.split([',', ' ']).any(|word| word == concat!("ign", "ore")) {
            faults.push(format!(
                "{}:{}: an example is not compiled: use no_run, compile_fail or text",
                file.path,
                i + 1
            ));
        }
    }
    faults
}
