//! Who may depend on whom: applications on `cqi`, that on adapters, those on `core`, and `core` on nobody.

use std::process::Command;

use serde_json::Value;

use super::{files, none, read, root};

/// Clients of brokers and stores, web and RPC frameworks, exporters. A name ending in `*` stands for all that begin so.
const NOT_IN_CORE: [&str; 28] = [
    "async-nats",
    "rdkafka*",
    "lapin",
    "redis*",
    "fred",
    "deadpool*",
    "sqlx*",
    "libsqlite3-sys",
    "rusqlite",
    "tokio-postgres",
    "diesel",
    "axum*",
    "hyper*",
    "h2",
    "http",
    "tower-http",
    "actix*",
    "warp",
    "reqwest",
    "tonic*",
    "prometheus*",
    "metrics",
    "opentelemetry*",
    "tracing-subscriber",
    "tracing-opentelemetry",
    "moka",
    "dashmap",
    "jsonwebtoken",
];

#[test]
fn fnd_5_core_knows_no_driver_broker_web_framework_or_exporter() {
    let tree = cargo(&[
        "tree",
        "--package",
        "cqi-core",
        "--no-default-features",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ]);
    assert!(
        tree.contains("cqi-core v") && tree.contains("tokio v"),
        "this is no tree:\n{tree}"
    );
    none(&banned(&tree));
}

#[test]
fn fnd_5_the_check_finds_what_it_looks_for() {
    assert_eq!(
        banned("cqi-core v0.1.0\nsqlx-core v0.9.0\nh2 v0.4.1\nhttparse v1.0.0").len(),
        2
    );
}

#[test]
fn dependencies_point_one_way() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let folder = package["manifest_path"].as_str().unwrap();
        let folder = super::from_root(std::path::Path::new(folder).parent().unwrap());
        for dependency in package["dependencies"].as_array().unwrap() {
            let text = |key: &str| dependency[key].as_str().unwrap_or_default().to_owned();
            edges.push((folder.clone(), text("name"), text("kind") == "dev"));
        }
    }
    assert!(
        edges.contains(&("cqi".to_owned(), "cqi-core".to_owned(), false)),
        "{edges:?}"
    );
    none(&wrong_edges(&edges));
}

#[test]
fn the_check_of_edges_finds_every_wrong_one() {
    let wrong = [
        ("core", "cqi-http", false),
        ("core", "cqi-testkit", true),
        ("adapters/http", "cqi-telemetry", false),
        ("adapters/http", "cqi", false),
        ("cqi", "cqi-testkit", false),
        ("examples/quickstart", "cqi-core", false),
        ("testkit", "cqi", false),
    ];
    let right = [
        ("cqi", "cqi-http", false),
        ("adapters/http", "cqi-testkit", true),
        ("core", "serde", false),
    ];
    let edges: Vec<_> = wrong
        .iter()
        .chain(&right)
        .map(|(a, b, dev)| ((*a).to_owned(), (*b).to_owned(), *dev))
        .collect();
    assert_eq!(wrong_edges(&edges).len(), wrong.len());
}

/// TST-8: and so no code of ours can race in a way that the compiler does not see.
#[test]
fn fnd_6_every_crate_has_the_lints_of_the_workspace_which_forbid_unsafe_code() {
    let workspace: toml::Table = read("Cargo.toml").text.parse().unwrap();
    let forbidden = workspace["workspace"]["lints"]["rust"]["unsafe_code"].as_str();
    assert_eq!(
        forbidden,
        Some("forbid"),
        "Cargo.toml: [workspace.lints.rust] must forbid unsafe_code"
    );
    let mut faults = Vec::new();
    for manifest in files("", &["Cargo.toml"])
        .into_iter()
        // The fuzz targets need another compiler, so they are a workspace of their own.
        .filter(|file| file.path != "Cargo.toml" && file.path != "fuzz/Cargo.toml")
    {
        let table: toml::Table = manifest.text.parse().unwrap();
        let inherits = table
            .get("lints")
            .and_then(|lints| lints.get("workspace")?.as_bool())
            == Some(true);
        if !inherits {
            faults.push(format!(
                "{}: every crate has the workspace's lints: add `[lints] workspace = true`",
                manifest.path
            ));
        }
        let member = manifest.path.trim_end_matches("/Cargo.toml");
        for list in ["members", "default-members"] {
            let members = workspace["workspace"][list].as_array().unwrap();
            if list == "members" && !members.iter().any(|name| name.as_str() == Some(member)) {
                faults.push(format!(
                    "{}: is no member: add it to `members` in Cargo.toml",
                    manifest.path
                ));
            }
        }
    }
    none(&faults);
}

fn banned(tree: &str) -> Vec<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    let is_banned = |name: &&str| {
        NOT_IN_CORE.iter().any(|banned| match banned.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == banned,
        })
    };
    let say = |name| {
        format!("core/Cargo.toml: core brings in `{name}`: move what needs it into an adapter (FND-5)")
    };
    names.filter(is_banned).map(say).collect()
}

/// Edges are the folder of the crate, the name of what it depends on, and whether for tests only.
fn wrong_edges(edges: &[(String, String, bool)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (folder, name, dev) in edges {
        if name != "cqi" && !name.starts_with("cqi-") {
            continue;
        }
        let rule = match folder.split('/').next().unwrap() {
            "core" => Some("core depends on no other crate of the workspace"),
            "integration" => None, // never published: its benchmarks use the testkit's servers
            _ if name == "cqi-testkit" => (!dev).then_some("the testkit is a dev-dependency"),
            "adapters" => {
                (name != "cqi-core").then_some("an adapter knows core and its client, nothing else")
            }
            "testkit" => (name != "cqi-core").then_some("the testkit knows core only"),
            "examples" => {
                (name != "cqi").then_some("an application depends on cqi, which re-exports the rest")
            }
            "cqi" => None,
            _ => Some("this folder has no rule: add one to integration/tests/tidy/edges.rs"),
        };
        faults.extend(rule.map(|rule| format!("{folder}/Cargo.toml: `{name}`: {rule}")));
    }
    faults
}

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "cargo {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
