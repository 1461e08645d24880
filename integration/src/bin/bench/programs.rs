//! A small program per suite, for a comparison that runs programs of many languages side by side.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use crate::args::Suite;

/// Where a comparison of many systems has its servers; where they are not up, the programs start their own.
const SERVERS: &str = " --server nats://127.0.0.1:24222 --server kafka://127.0.0.1:29092 \
    --server redis://127.0.0.1:26379 --server postgres://bench@127.0.0.1:25432/bench";

/// Writes the programs into `folder`, which is made if it is missing. Each runs every case of cqi once and obeys the
/// environment variable `SCALE`; `http bare|full PORT` is a server instead.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let bench = std::env::current_exe()?;
    let bench = quoted(bench.to_str().ok_or(io::ErrorKind::InvalidFilename)?);
    for suite in Suite::ALL {
        let name = suite.name();
        let path = folder.join(name);
        let line = match suite {
            Suite::Http => format!("{bench} serve \"$@\""),
            _ => format!("{bench} {name} --json --peer cqi --rounds 1 --scale \"${{SCALE:-1}}\"{SERVERS}"),
        };
        fs::write(&path, format!("#!/bin/sh\nexec {line}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_suite_gets_a_program() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for suite in Suite::ALL {
            let script = fs::read_to_string(folder.path().join(suite.name())).unwrap();
            let expected = match suite {
                Suite::Http => " serve \"$@\"".to_owned(),
                other => format!(" {} --json", other.name()),
            };
            assert!(script.contains(&expected), "{script}");
            assert_eq!(
                script.contains(" --server nats://"),
                suite != Suite::Http,
                "{script}"
            );
        }
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }
}
