//! Folders and files. What concerns names is kept at once; of files, what was written through.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    time::SystemTime,
};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::content::{Content, PAGE};

type Result<T> = std::result::Result<T, Errno>;

/// All folders and files by their numbers.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: HashMap<INodeNo, Node>,
    next: u64,
}

/// A folder or a file.
#[derive(Debug)]
pub(super) struct Node {
    body: Body,
    /// Whether it has a name. One without may still be open.
    named: bool,
    mode: u16,
    owner: (u32, u32),
    changed: SystemTime,
}

#[derive(Debug)]
enum Body {
    Folder(BTreeMap<OsString, INodeNo>),
    File(Content),
}

/// What of a file or folder can be set. `None` stays.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) mode: Option<u32>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) changed: Option<SystemTime>,
}

fn now() -> SystemTime {
    jiff::Timestamp::now().into()
}

impl Node {
    fn new(body: Body, mode: u32, owner: (u32, u32)) -> Self {
        Self {
            body,
            named: true,
            mode: bits(mode),
            owner,
            changed: now(),
        }
    }

    /// An empty folder.
    pub(super) fn new_folder(mode: u32, owner: (u32, u32)) -> Self {
        Self::new(Body::Folder(BTreeMap::new()), mode, owner)
    }

    /// An empty file.
    pub(super) fn new_file(mode: u32, owner: (u32, u32)) -> Self {
        Self::new(Body::File(Content::default()), mode, owner)
    }

    fn folder(&self) -> Result<&BTreeMap<OsString, INodeNo>> {
        match &self.body {
            Body::Folder(names) => Ok(names),
            Body::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn folder_mut(&mut self) -> Result<&mut BTreeMap<OsString, INodeNo>> {
        match &mut self.body {
            Body::Folder(names) => Ok(names),
            Body::File(_) => Err(Errno::ENOTDIR),
        }
    }
}

/// The permissions of a mode.
fn bits(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0)
}

impl Tree {
    /// An empty folder.
    pub(super) fn new(owner: (u32, u32)) -> Self {
        let root = Node::new_folder(0o755, owner);
        Self {
            nodes: HashMap::from([(INodeNo::ROOT, root)]),
            next: INodeNo::ROOT.0,
        }
    }

    fn node(&self, number: INodeNo) -> Result<&Node> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, number: INodeNo) -> Result<&mut Node> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    pub(super) fn file(&self, number: INodeNo) -> Result<&Content> {
        match &self.node(number)?.body {
            Body::File(content) => Ok(content),
            Body::Folder(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn file_mut(&mut self, number: INodeNo) -> Result<&mut Content> {
        match &mut self.node_mut(number)?.body {
            Body::File(content) => Ok(content),
            Body::Folder(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn attributes(&self, number: INodeNo) -> Result<FileAttr> {
        let node = self.node(number)?;
        let (kind, size) = match &node.body {
            Body::Folder(_) => (FileType::Directory, 0),
            Body::File(content) => (FileType::RegularFile, content.size()),
        };
        Ok(FileAttr {
            ino: number,
            size,
            blocks: size.div_ceil(512),
            atime: node.changed,
            mtime: node.changed,
            ctime: node.changed,
            crtime: node.changed,
            kind,
            perm: node.mode,
            nlink: u32::from(node.named),
            uid: node.owner.0,
            gid: node.owner.1,
            rdev: 0,
            blksize: u32::try_from(PAGE).unwrap_or(512),
            flags: 0,
        })
    }

    pub(super) fn lookup(&self, folder: INodeNo, name: &OsStr) -> Result<INodeNo> {
        let number = self.node(folder)?.folder()?.get(name);
        number.copied().ok_or(Errno::ENOENT)
    }

    /// Numbers and names in the order of the numbers, which adding and removing others does not change.
    pub(super) fn list(&self, folder: INodeNo) -> Result<Vec<(INodeNo, FileType, OsString)>> {
        let mut entries = Vec::new();
        for (name, number) in self.node(folder)?.folder()? {
            let kind = match self.node(*number)?.body {
                Body::Folder(_) => FileType::Directory,
                Body::File(_) => FileType::RegularFile,
            };
            entries.push((*number, kind, name.clone()));
        }
        entries.sort_by_key(|(number, _, _)| number.0);
        Ok(entries)
    }

    pub(super) fn make(&mut self, folder: INodeNo, name: &OsStr, node: Node) -> Result<INodeNo> {
        let number = INodeNo(self.next + 1);
        let names = self.node_mut(folder)?.folder_mut()?;
        if names.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        names.insert(name.to_owned(), number);
        self.next = number.0;
        self.nodes.insert(number, node);
        Ok(number)
    }

    /// Takes the name away. The bytes of a file stay for those who have it open.
    pub(super) fn remove_file(&mut self, folder: INodeNo, name: &OsStr) -> Result<()> {
        let number = self.lookup(folder, name)?;
        self.file(number)?;
        self.remove(folder, name, number)
    }

    pub(super) fn remove_folder(&mut self, folder: INodeNo, name: &OsStr) -> Result<()> {
        let number = self.lookup(folder, name)?;
        if !self.node(number)?.folder()?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.remove(folder, name, number)
    }

    fn remove(&mut self, folder: INodeNo, name: &OsStr, number: INodeNo) -> Result<()> {
        self.node_mut(folder)?.folder_mut()?.remove(name);
        self.node_mut(number)?.named = false;
        Ok(())
    }

    /// Gives it another name and takes away what had that name before.
    pub(super) fn rename(
        &mut self,
        (folder, name): (INodeNo, &OsStr),
        (into, as_name): (INodeNo, &OsStr),
        may_replace: bool,
    ) -> Result<()> {
        let number = self.lookup(folder, name)?;
        match self.lookup(into, as_name) {
            Ok(same) if same == number => return Ok(()),
            Ok(_) if !may_replace => return Err(Errno::EEXIST),
            Ok(other) if self.file(other).is_ok() => self.remove_file(into, as_name)?,
            Ok(_) => self.remove_folder(into, as_name)?,
            Err(_) => {}
        }
        self.node_mut(into)?
            .folder_mut()?
            .insert(as_name.to_owned(), number);
        self.node_mut(folder)?.folder_mut()?.remove(name);
        Ok(())
    }

    pub(super) fn change(&mut self, number: INodeNo, change: &Change) -> Result<()> {
        if let Some(size) = change.size {
            self.file_mut(number)?.resize(size);
        }
        let node = self.node_mut(number)?;
        node.mode = change.mode.map_or(node.mode, bits);
        node.owner = (
            change.user.unwrap_or(node.owner.0),
            change.group.unwrap_or(node.owner.1),
        );
        node.changed = change.changed.unwrap_or_else(now);
        Ok(())
    }

    /// Writes; `through` keeps what is written.
    pub(super) fn write(&mut self, number: INodeNo, offset: u64, bytes: &[u8], through: bool) -> Result<()> {
        let file = self.file_mut(number)?;
        file.write(offset, bytes);
        if through {
            file.keep_range(offset, bytes.len());
        }
        self.node_mut(number)?.changed = now();
        Ok(())
    }

    /// Keeps everything.
    pub(super) fn keep(&mut self) {
        self.files().for_each(Content::keep);
    }

    /// Forgets everything that was not kept, and files without a name.
    pub(super) fn forget(&mut self) {
        self.nodes.retain(|_, node| node.named);
        self.files().for_each(Content::forget);
    }

    fn files(&mut self) -> impl Iterator<Item = &mut Content> {
        self.nodes.values_mut().filter_map(|node| match &mut node.body {
            Body::File(content) => Some(content),
            Body::Folder(_) => None,
        })
    }
}
