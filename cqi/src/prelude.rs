//! What most service files import: `use cqi::prelude::*;`.

pub use std::{process::ExitCode, sync::Arc};

#[cfg(feature = "http")]
pub use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{delete, get, patch, post, put},
};
pub use cqi_core::{
    Code, Error, Kind, Result, Timestamp,
    cache::{Cache, CacheExt as _, ReadThrough, key},
    config::Config,
    database::{Database, DatabaseExt as _, Decimal, Executor, ExecutorExt as _, Row, sql},
    error::ResultExt as _,
    event::{DomainEvent, EventBus, EventBusExt as _, Received, Router as Events},
};
#[cfg(feature = "http")]
pub use cqi_http::{HttpError, Json, Path, Query, Result as HttpResult};
pub use tracing;

pub use crate::Cqi;
