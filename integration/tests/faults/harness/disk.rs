//! A disk that fills.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A small file system of its own. Unmounted when dropped.
pub(crate) struct Disk {
    pub(crate) folder: PathBuf,
    _parent: tempfile::TempDir,
}

impl Disk {
    /// `None` where this process may not mount.
    pub(crate) fn mount(megabytes: usize) -> Option<Self> {
        let parent = tempfile::tempdir().unwrap();
        // A server that runs as another user must get in.
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = parent.path().join("disk");
        fs::create_dir(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(&folder)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self {
            folder,
            _parent: parent,
        })
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Fills what is left, but for these bytes.
    pub(crate) fn fill(&self, but: usize) {
        let mut bytes = fs::File::create(self.ballast()).unwrap();
        let zeros = vec![0; 1 << 20];
        let mut written = 0u64;
        while std::io::Write::write_all(&mut bytes, &zeros).is_ok() {
            written += 1 << 20;
        }
        let full = bytes.metadata().unwrap().len().max(written);
        bytes
            .set_len(full.saturating_sub(u64::try_from(but).unwrap()))
            .unwrap();
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may still be about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
