//! What the kernel asks of the file system. No answer waits for anything but the lock.

use std::{
    ffi::OsStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::libc;

use super::tree::{Change, Node, Tree};

/// Nothing changes behind the kernel's back, so it may remember what it was told.
const LONG: Duration = Duration::from_secs(3600);
/// What is said to be free, in blocks of 4 KiB: 16 GiB.
const FREE: u64 = 4 << 20;

/// Serves one tree. All of it is in memory.
#[derive(Debug, Clone)]
pub(super) struct Serve(Arc<Mutex<Tree>>);

impl Serve {
    pub(super) fn new(tree: Tree) -> Self {
        Self(Arc::new(Mutex::new(tree)))
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attributes of what `find` gives.
    fn attributes(&self, find: impl FnOnce(&mut Tree) -> Result<INodeNo, Errno>) -> Result<FileAttr, Errno> {
        let mut tree = self.tree();
        let number = find(&mut tree)?;
        tree.attributes(number)
    }
}

fn done(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.entry(&LONG, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attr(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attributes) => reply.attr(&LONG, &attributes),
        Err(error) => reply.error(error),
    }
}

fn owner(request: &Request) -> (u32, u32) {
    (request.uid(), request.gid())
}

impl Filesystem for Serve {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.attributes(|tree| tree.lookup(parent, name)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, self.attributes(|_| Ok(ino)));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change {
            mode,
            user: uid,
            group: gid,
            size,
            changed: match mtime {
                Some(TimeOrNow::SpecificTime(time)) => Some(time),
                Some(TimeOrNow::Now) | None => None,
            },
        };
        attr(
            reply,
            self.attributes(|tree| tree.change(ino, &change).map(|()| ino)),
        );
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let folder = Node::new_folder(mode & !umask, owner(request));
        entry(reply, self.attributes(|tree| tree.make(parent, name, folder)));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let file = Node::new_file(mode & !umask, owner(request));
        match self.attributes(|tree| tree.make(parent, name, file)) {
            Ok(attributes) => reply.created(
                &LONG,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.tree().remove_file(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.tree().remove_folder(parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags & !RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let renamed = self
            .tree()
            .rename((parent, name), (newparent, newname), flags.is_empty());
        done(reply, renamed);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = usize::try_from(size).unwrap_or(0);
        let read = self.tree().file(ino).map(|file| file.read(offset, length));
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // What the kernel writes back of its own accord carries the flags of any file handle.
        let through = flags.0 & libc::O_DSYNC != 0 && !write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        match self.tree().write(ino, offset, data, through) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok(); // closing keeps nothing
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut tree = self.tree();
        done(reply, tree.file_mut(ino).map(super::content::Content::keep));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok(); // names are kept at once
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match self.tree().list(ino) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        // Where the next part begins is told by the number of the last entry: 0 and 1 are the folder and its parent.
        let dots = [".", ".."].map(|name| (ino, FileType::Directory, OsStr::new(name).to_owned()));
        let dots = dots.into_iter().zip(1_u64..);
        let entries = entries.into_iter().map(|entry| {
            let place = entry.0.0 + 1;
            (entry, place)
        });
        for ((number, kind, name), place) in dots.chain(entries).filter(|(_, place)| *place > offset) {
            if reply.add(number, place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(FREE, FREE, FREE, FREE, FREE, 4096, 255, 4096);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // There is room; only growing is to be seen.
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut tree = self.tree();
        let grown = tree.file_mut(ino).map(|file| {
            let size = file.size().max(offset.saturating_add(length));
            file.resize(size);
        });
        done(reply, grown);
    }
}
