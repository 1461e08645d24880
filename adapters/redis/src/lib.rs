//! Cache and registry on Redis.
