//! Clients in another language.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Runs a program of `clients/` with these lines as its input; gives the lines it prints.
///
/// # Panics
/// When it fails, with what it said.
pub(crate) fn python(program: &str, args: &[&str], input: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    let mut child = Command::new("python3")
        .arg(folder.join(program))
        .args(args)
        .env("PYTHONPATH", packages())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", output.status);
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Whether Python is there and has this module.
pub(crate) fn has_python(module: &str) -> bool {
    let status = Command::new("python3")
        .args(["-c", &format!("import {module}")])
        .env("PYTHONPATH", packages())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Where `scripts/servers` installs what is not on the system.
pub(crate) fn packages() -> PathBuf {
    let tools = std::env::var_os("CQI_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
        PathBuf::from,
    );
    tools.join("python")
}
