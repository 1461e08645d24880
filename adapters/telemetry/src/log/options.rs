//! How lines are made and kept.

/// What the configuration does not say about the log.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// How many bytes of lines may wait for a slow output; further lines are dropped and counted. Default 4 MiB.
    pub buffer: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { buffer: 4 << 20 }
    }
}
