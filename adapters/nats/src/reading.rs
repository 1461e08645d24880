//! Who reads from a group's inbox at present.

use tokio::time::Instant;

use crate::{group::Group, link::lock};

/// Marks that a member reads, until this is dropped, however that comes.
pub(crate) struct Reading<'a>(&'a Group);

impl<'a> Reading<'a> {
    pub(crate) fn begin(group: &'a Group) -> Self {
        lock(&group.state).readers += 1;
        Self(group)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.readers -= 1;
        if state.readers == 0 {
            state.idle_since = Some(Instant::now());
        }
    }
}
