//! The bytes of a file, and which of them a power loss leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

/// What is kept is kept in whole pages, as on a real disk: what is written through takes its page with it.
pub(super) const PAGE: usize = 4096;

/// Where there is no page there are zeros.
#[derive(Debug, Clone, Default)]
struct Image {
    size: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

/// A file as it is, and as it would be after a power loss.
#[derive(Debug, Default)]
pub(super) struct Content {
    now: Image,
    kept: Image,
    /// Pages that were written since they were kept.
    dirty: BTreeSet<u64>,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.now.size
    }

    /// What is there of these bytes.
    pub(super) fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let rest = usize::try_from(self.now.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(rest)];
        for (page, within, of) in pieces(offset, bytes.len()) {
            if let Some(page) = self.now.pages.get(&page) {
                bytes[of].copy_from_slice(&page[within]);
            }
        }
        bytes
    }

    /// Writes, and grows to the end of what is written.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, within, of) in pieces(offset, bytes.len()) {
            let there = self.now.pages.entry(page);
            let there = there.or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(there)[within].copy_from_slice(&bytes[of]);
            self.dirty.insert(page);
        }
        self.now.size = self.now.size.max(offset + bytes.len() as u64);
    }

    /// Cuts or grows. What is cut off is gone for ever; growing is as writing zeros.
    pub(super) fn resize(&mut self, size: u64) {
        self.now.cut(size);
        self.kept.cut(size);
        self.dirty.retain(|page| page * (PAGE as u64) < size);
        self.now.size = size;
    }

    /// Keeps everything, as `fsync` does.
    pub(super) fn keep(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            if let Some(bytes) = self.now.pages.get(&page) {
                self.kept.pages.insert(page, Arc::clone(bytes));
            }
        }
        self.kept.size = self.now.size;
    }

    /// Keeps what was just written here, as a write of a file opened with `O_DSYNC` does.
    pub(super) fn keep_range(&mut self, offset: u64, length: usize) {
        for (page, _, _) in pieces(offset, length) {
            if let Some(bytes) = self.now.pages.get(&page) {
                self.kept.pages.insert(page, Arc::clone(bytes));
                self.dirty.remove(&page);
            }
        }
        self.kept.size = self.kept.size.max(offset + length as u64);
    }

    /// Goes back to what was kept.
    pub(super) fn forget(&mut self) {
        self.dirty.clear();
        // A page at the end may have been kept with more bytes than the size tells.
        self.kept.cut(self.kept.size);
        self.now = self.kept.clone();
    }
}

impl Image {
    /// Leaves no byte from `size` on.
    fn cut(&mut self, size: u64) {
        self.size = self.size.min(size);
        let (last, within) = (
            size / PAGE as u64,
            usize::try_from(size % PAGE as u64).unwrap_or(0),
        );
        drop(self.pages.split_off(&(last + u64::from(within > 0))));
        if let Some(page) = self.pages.get_mut(&last) {
            Arc::make_mut(page)[within..].fill(0);
        }
    }
}

/// The pages of these bytes: which one, where in it, and where in the bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % PAGE as u64).unwrap_or(0);
        let piece = (PAGE - within).min(length - done);
        (piece > 0).then(|| {
            let of = done..done + piece;
            done += piece;
            (at / PAGE as u64, within..within + piece, of)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(content: &Content) -> Vec<u8> {
        content.read(0, 1 << 20)
    }

    #[test]
    fn what_is_written_and_not_kept_is_forgotten_with_its_size() {
        let mut content = Content::default();
        content.write(0, b"kept");
        content.keep();
        content.write(2, b"lost, and longer");
        assert_eq!(whole(&content), b"kelost, and longer");
        content.forget();
        assert_eq!(whole(&content), b"kept");
        content.write(6, b"x");
        assert_eq!(whole(&content), b"kept\0\0x", "nothing of it comes back");
    }

    #[test]
    fn what_is_kept_stays() {
        let mut content = Content::default();
        let bytes: Vec<u8> = (0..3 * PAGE + 5)
            .map(|n| u8::try_from(n % 251).unwrap())
            .collect();
        content.write(7, &bytes);
        content.keep();
        content.forget();
        assert_eq!(content.size(), bytes.len() as u64 + 7);
        assert_eq!(content.read(7, bytes.len()), bytes);
        assert_eq!(content.read(content.size() - 1, 10).len(), 1);
        assert!(content.read(content.size() + 1, 10).is_empty());
    }

    #[test]
    fn of_what_is_kept_in_part_the_rest_is_forgotten() {
        let mut content = Content::default();
        content.write(0, &[1; 3 * PAGE]);
        content.keep();
        content.write(0, &[2; 3 * PAGE]);
        content.write(PAGE as u64, &[3; PAGE]);
        content.keep_range(PAGE as u64, PAGE);
        content.forget();
        let pages: Vec<u8> = whole(&content).chunks(PAGE).map(|page| page[0]).collect();
        assert_eq!(pages, [1, 3, 1]);
        assert!(
            whole(&content)
                .chunks(PAGE)
                .all(|page| page.iter().all(|byte| *byte == page[0]))
        );
    }

    #[test]
    fn bytes_written_through_at_the_end_grow_the_file_for_good() {
        let mut content = Content::default();
        content.write(10, b"end");
        content.keep_range(10, 3);
        content.forget();
        assert_eq!(whole(&content), b"\0\0\0\0\0\0\0\0\0\0end");
    }

    #[test]
    fn cutting_is_for_good_and_growing_is_not() {
        let mut content = Content::default();
        content.write(0, &[1; 2 * PAGE]);
        content.keep();
        content.resize(10);
        content.resize(20);
        assert_eq!(whole(&content), [[1; 10], [0; 10]].concat());
        content.forget();
        assert_eq!(whole(&content), [1; 10]);
    }
}
