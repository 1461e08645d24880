//! The programs of the examples, built once per test process.
//!
//! Cargo tells a test where the programs of its own package are, but not those of others. So they are built here: by the
//! same cargo, into the same folder, in the same profile as this test. When nothing has changed, that takes a moment; an
//! old program is never tested.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// An example.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    Quickstart,
    Full,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Quickstart => "quickstart",
            Self::Full => "full",
        }
    }

    /// Where it is.
    pub(crate) fn path(self) -> &'static Path {
        static QUICKSTART: OnceLock<PathBuf> = OnceLock::new();
        static FULL: OnceLock<PathBuf> = OnceLock::new();
        let built = match self {
            Self::Quickstart => &QUICKSTART,
            Self::Full => &FULL,
        };
        built.get_or_init(|| build(self.name()))
    }
}

fn build(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<this test>, or target/<platform>/<profile>/deps/<this test>.
    let output = test.ancestors().nth(2).unwrap();
    let profile = match output.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        named => named,
    };
    let mut target = output.parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    // The folder of all output is the one where cargo keeps what it knows of the compiler.
    if !target.join(".rustc_info.json").exists() {
        build.arg("--target").arg(target.file_name().unwrap());
        target = target.parent().unwrap();
    }
    let result = build
        // With the features of the whole workspace, so that hardly anything is compiled twice.
        .args([
            "build",
            "--quiet",
            "--offline",
            "--locked",
            "--workspace",
            "--all-features",
        ])
        .args(["--bin", name, "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        result.status.success(),
        "{name} does not build:\n{}",
        String::from_utf8_lossy(&result.stderr)
    );
    output.join(name)
}
