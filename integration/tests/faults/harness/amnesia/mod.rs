//! A disk that forgets what was not written through when the power is lost.
//!
//! It is a file system of this process, all of it in memory. Of a file's bytes, its size included, a power loss leaves
//! those that `fsync` or a write with `O_SYNC` or `O_DSYNC` covered, in pages of 4 KiB. What concerns names (making,
//! renaming and removing) and cutting a file off counts as written through at once, which real disks do not promise: a
//! server that forgets to sync its folders is not found out. Closing a file, and what the kernel writes back of its own
//! accord, keep nothing.

mod content;
mod serve;
mod tree;

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cqi_testkit::fixture;
use fuser::{BackgroundSession, Config, MountOption, SessionACL};

use self::{serve::Serve, tree::Tree};

/// What it is called in the list of mounts.
const NAME: &str = "cqi-amnesia";

/// Such a disk. Unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Amnesia {
    pub(crate) folder: PathBuf,
    serve: Serve,
    session: Mutex<Option<BackgroundSession>>,
    _parent: tempfile::TempDir,
}

impl Amnesia {
    /// An empty one; `None` after saying that the test is skipped, where this process may not mount.
    pub(crate) fn mount() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            fixture::skip("no disk that forgets: only root may mount a file system of its own");
            return None;
        }
        unmount_stale();
        let parent = tempfile::tempdir().unwrap();
        // A server that runs as another user must get in.
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = parent.path().join("disk");
        fs::create_dir(&folder).unwrap();
        let owner = fs::metadata(&folder).unwrap();
        let serve = Serve::new(Tree::new((owner.uid(), owner.gid())));
        match session(&serve, &folder) {
            Ok(session) => Some(Self {
                folder,
                serve,
                session: Mutex::new(Some(session)),
                _parent: parent,
            }),
            Err(error) => {
                fixture::skip(&format!("no disk that forgets: {error}"));
                None
            }
        }
    }

    /// Keeps everything, as time does: an operating system writes back by itself what is half a minute old.
    pub(crate) fn settle(&self) {
        self.serve.tree().keep();
    }

    /// Forgets everything that was not kept. Who used the disk must be dead.
    ///
    /// Blocks.
    ///
    /// # Panics
    /// When somebody still uses it.
    #[allow(clippy::disallowed_methods)] // called where blocking is fine
    pub(crate) fn lose_power(&self) {
        let mut current = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        // The kernel remembers pages, some of which are not written back yet; it forgets them with the mount.
        let mut tries = 0;
        while !umount(&self.folder, &[]) {
            tries += 1;
            assert!(tries < 100, "{} is in use", self.folder.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Some(ended) = current.take() {
            ended.join().unwrap();
        }
        self.serve.tree().forget();
        *current = Some(session(&self.serve, &self.folder).unwrap());
    }
}

impl Drop for Amnesia {
    fn drop(&mut self) {
        // Lazily: the server may still be about to end. What serves it ends after it.
        umount(&self.folder, &["-l"]);
    }
}

/// Mounts; a thread of its own serves from now on.
fn session(serve: &Serve, folder: &Path) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(NAME.to_owned()),
        MountOption::DefaultPermissions,
    ];
    config.acl = SessionACL::All;
    fuser::spawn_mount(serve.clone(), folder, &config)
}

fn umount(folder: &Path, how: &[&str]) -> bool {
    let mut command = Command::new("umount");
    let ended = command.args(how).arg(folder).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}

/// Unmounts what killed processes left: nobody serves it any more.
fn unmount_stale() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(NAME), Some(folder)) = (words.next(), words.next()) else {
            continue;
        };
        let found = fs::metadata(folder);
        if found.is_err_and(|error| error.kind() == io::ErrorKind::NotConnected) {
            umount(Path::new(folder), &["-l"]);
            // Empty now; what is not stays.
            let _ = fs::remove_dir(folder);
            let _ = Path::new(folder).parent().map(fs::remove_dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    /// On a real mount, by the calls that servers use.
    #[test]
    fn a_power_loss_takes_what_was_not_synced_and_nothing_else() {
        let Some(disk) = Amnesia::mount() else { return };
        let path = |name: &str| disk.folder.join(name);
        let mut settled = fs::File::create(path("settled")).unwrap();
        settled.write_all(b"settled").unwrap();
        disk.settle();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("folder/lost"), b"never synced").unwrap();
        let mut synced = fs::File::create(path("synced.tmp")).unwrap();
        synced.write_all(b"synced").unwrap();
        synced.sync_data().unwrap();
        synced.write_all(b", and more").unwrap();
        drop(synced);
        fs::rename(path("synced.tmp"), path("synced")).unwrap();
        let mut through = fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut through, nix::libc::O_DSYNC);
        let mut through = through
            .create_new(true)
            .write(true)
            .open(path("through"))
            .unwrap();
        through.write_all(b"through").unwrap();
        drop(through);
        settled.rewind().unwrap();
        settled.write_all(b"SETTLED").unwrap();
        settled.set_len(4).unwrap();
        drop(settled);
        fs::write(path("removed"), b"x").unwrap();
        fs::remove_file(path("removed")).unwrap();
        assert_eq!(fs::read(path("synced")).unwrap(), b"synced, and more");

        disk.lose_power();
        let mut names: Vec<_> = fs::read_dir(&disk.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["folder", "settled", "synced", "through"]);
        assert_eq!(fs::read(path("folder/lost")).unwrap(), b"");
        assert_eq!(fs::read(path("synced")).unwrap(), b"synced");
        assert_eq!(fs::read(path("through")).unwrap(), b"through");
        assert_eq!(fs::read(path("settled")).unwrap(), b"sett");
        let mut again = fs::File::options()
            .read(true)
            .append(true)
            .open(path("synced"))
            .unwrap();
        again.write_all(b" again").unwrap();
        again.rewind().unwrap();
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "synced again");
        assert_eq!(
            fs::remove_dir(path("folder")).unwrap_err().kind(),
            io::ErrorKind::DirectoryNotEmpty
        );
    }

    #[test]
    fn nothing_stays_mounted() {
        let Some(disk) = Amnesia::mount() else { return };
        let folder = disk.folder.to_str().unwrap().to_owned();
        let mounted = || fs::read_to_string("/proc/self/mounts").unwrap().contains(&folder);
        assert!(mounted());
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _disk = disk;
            panic!("a test fails");
        }));
        assert!(failed.is_err());
        assert!(!mounted());
    }
}
