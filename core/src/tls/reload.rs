//! Certificates that change while a server runs.

use std::{
    convert::Infallible,
    future::{pending, ready},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::ServerConfig;
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use super::{TlsOptions, files::read};
use crate::{
    Error, Result,
    health::{Checker, check_fn},
};

/// The protocols that a server offers, the preferred one first.
type Alpn = &'static [&'static [u8]];

/// The files of a server's TLS, not yet read.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    options: TlsOptions,
    alpn: Alpn,
    /// Why the files cannot be used as they are now.
    fault: watch::Sender<Option<Error>>,
}

/// The configuration that is made of these files, as they were when they last could be used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveTls(Arc<Live>);

#[derive(Debug)]
struct Live {
    files: TlsFiles,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// What the files held when they were last looked at.
    seen: Seen,
}

type Seen = [u8; 32];

impl TlsFiles {
    /// For a server that offers `alpn`, the preferred protocol first.
    pub fn new(options: TlsOptions, alpn: Alpn) -> Self {
        Self {
            options,
            alpn,
            fault: watch::Sender::new(None),
        }
    }

    /// Fails as long as the files cannot be used, and the server has an older certificate for that reason. Register it as
    /// not required: an older certificate serves for a while, and operators shall see it.
    pub fn checker(&self, name: &str) -> impl Checker + use<> {
        let fault = self.fault.subscribe();
        check_fn(name.to_owned(), move || {
            ready(fault.borrow().clone().map_or(Ok(()), Err))
        })
    }

    /// Reads the files, off the async threads.
    ///
    /// # Errors
    /// As [`TlsOptions::server_config`].
    pub async fn load(&self) -> Result<LiveTls> {
        let files = self.clone();
        let reading = spawn_blocking(move || {
            // Before they are used: what changes in between is seen as a change.
            let seen = files.look();
            let config = files.options.server_config(files.alpn)?;
            let current = Mutex::new(Current { config, seen });
            Ok(LiveTls(Arc::new(Live { files, current })))
        });
        reading
            .await
            .map_err(|_| Error::panicked("reading the files of TLS"))?
    }

    /// A digest of all files. It is compared in place of dates, which need not change with a file.
    fn look(&self) -> Seen {
        let TlsOptions {
            certificate,
            key,
            client_ca,
            ..
        } = &self.options;
        let mut digest = Sha256::new();
        let mut add = |file: &Path, what: &str| {
            let held: Seen = match read(file, what) {
                Ok(text) => Sha256::digest(&*text).into(),
                Err(error) => Sha256::digest(error.chain().to_string()).into(),
            };
            digest.update(held);
        };
        add(certificate, "certificate");
        add(key, "key");
        if let Some(file) = client_ca {
            add(file, "client CA");
        }
        digest.finalize().into()
    }
}

impl LiveTls {
    /// For the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(
            &self
                .0
                .current
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .config,
        )
    }

    /// [`LiveTls::follow`] for a server that may have no TLS.
    pub async fn follow_if_any(live: Option<&Self>) -> Infallible {
        match live {
            Some(live) => live.follow().await,
            None => pending().await,
        }
    }

    /// Looks at the files again and again, as often as [`TlsOptions::reload_interval`] says, until it is dropped. When they
    /// have changed, [`LiveTls::config`] is made of them from then on; connections that exist go on as they began. Files
    /// that cannot be used change nothing: it is logged once, and the checker fails until they can.
    pub async fn follow(&self) -> Infallible {
        let interval = self.0.files.options.reload_interval;
        if interval.is_zero() {
            return pending().await;
        }
        loop {
            sleep(interval).await;
            let live = self.clone();
            if spawn_blocking(move || live.look_again()).await.is_err() {
                tracing::error!("reading the files of TLS panicked");
            }
        }
    }

    fn look_again(&self) {
        let Live { files, current } = &*self.0;
        let current = || current.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = files.look();
        if current().seen == seen {
            return;
        }
        let certificate = files.options.certificate.display();
        let loaded = files.options.server_config(files.alpn);
        let mut current = current();
        current.seen = seen;
        let fault = match loaded {
            Ok(config) => {
                current.config = config;
                tracing::info!(%certificate, "the files of TLS have changed and are used from now on");
                None
            }
            Err(error) => {
                tracing::warn!(
                    error = %error.chain(),
                    "the files of TLS have changed and cannot be used; the old certificate stays"
                );
                Some(error)
            }
        };
        drop(current);
        files.fault.send_replace(fault);
    }
}
