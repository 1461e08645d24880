//! What most service files import: `use cqi_core::prelude::*;`.

pub use crate::error::{Code, Error, Kind, Result, ResultExt as _};
