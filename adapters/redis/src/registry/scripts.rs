//! The registry's scripts. Each is one atomic step on the server, whose clock decides what has expired.

use std::sync::LazyLock;

use redis::Script;

/// A script and its hash.
pub(super) struct Code {
    pub(super) text: &'static str,
    pub(super) script: LazyLock<Script>,
}

macro_rules! code {
    ($file:literal) => {{
        const TEXT: &str = concat!(
            include_str!("lua/common.lua"),
            include_str!(concat!("lua/", $file))
        );
        Code {
            text: TEXT,
            script: LazyLock::new(|| Script::new(TEXT)),
        }
    }};
}

pub(super) static REGISTER: Code = code!("register.lua");
pub(super) static HEARTBEAT: Code = code!("heartbeat.lua");
pub(super) static DEREGISTER: Code = code!("deregister.lua");
pub(super) static DISCOVER: Code = code!("discover.lua");
pub(super) static POLL: Code = code!("poll.lua");

/// The channel on which the name is published of which something has changed.
pub(super) const BELL: &str = "{cqi-registry}:bell";

/// The key that leads to the node of a cluster where the registry is.
pub(super) const SLOT: &str = "{cqi-registry}:slot";
