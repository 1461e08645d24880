//! Which services run where.

mod port;

pub use self::port::{Change, Instance, Registry, ServiceInfo, Watch};
