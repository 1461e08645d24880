//! The services of a server, and which of them a path means.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Waker},
};

use cqi_core::{Code, Error, Result, auth::Requirement};
use http::{Request, Response};
use tonic::{body::Body, server::NamedService};
use tower::{Service, ServiceExt as _};

/// The most names of methods that are remembered, should a service answer to any.
const MAX_KNOWN: usize = 1_000;

/// What a gRPC server serves: every service that tonic generates, with or without interceptors and tower layers.
pub trait GrpcService:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcService for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

pub(super) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// A service whose type is forgotten.
trait Handler: Send + Sync {
    fn call(&self, request: Request<Body>) -> Answering;
}

struct Typed<S>(S);

impl<S: GrpcService> Handler for Typed<S> {
    fn call(&self, request: Request<Body>) -> Answering {
        let mut service = self.0.clone();
        // Generated services are always ready, and their futures are boxed already.
        if service
            .poll_ready(&mut Context::from_waker(Waker::noop()))
            .is_pending()
        {
            return Box::pin(service.oneshot(request));
        }
        let mut future = Some(service.call(request));
        let boxed = (&mut future as &mut dyn Any).downcast_mut::<Option<Answering>>();
        match boxed.and_then(Option::take) {
            Some(boxed) => boxed,
            None => Box::pin(async move {
                match future {
                    Some(future) => future.await,
                    // Taken above only, where this is not reached.
                    None => Ok(Response::new(Body::empty())),
                }
            }),
        }
    }
}

/// One service.
pub(super) struct Entry {
    handler: Box<dyn Handler>,
    name: &'static str,
    /// Health and reflection, which are called all the time and by tools.
    pub(super) routine: bool,
}

/// The names of a server's services. Cheap to clone; knows also those that are added later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<RwLock<Vec<&'static str>>>);

impl Names {
    pub(crate) fn contains(&self, name: &str) -> bool {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.contains(&name)
    }
}

/// All services of a server.
#[derive(Default)]
pub(crate) struct Services {
    entries: HashMap<&'static str, Arc<Entry>>,
    names: Names,
    /// By service or `service/method`.
    requirements: HashMap<String, Vec<Requirement>>,
    /// Methods that the program has named, in a descriptor or a requirement: `service/method`.
    declared: HashSet<String>,
    /// Methods that are known to exist, by their path without the first slash.
    known: RwLock<HashMap<Arc<str>, Arc<Method>>>,
}

/// What is known about the method that a call asks for.
pub(super) struct Method {
    /// `package.Service/Method`.
    pub(super) name: Arc<str>,
    /// Whether such a method is known to exist: the program has named it, or it was seen. Tonic does not say which methods
    /// a service has, but one that is not there answers UNIMPLEMENTED at once. Only names of others become labels.
    pub(super) known: bool,
    pub(super) entry: Arc<Entry>,
    pub(super) requirements: Vec<Requirement>,
}

impl Services {
    pub(crate) fn add<S: GrpcService>(&mut self, service: S, routine: bool) -> Result<()> {
        if self.entries.contains_key(S::NAME) {
            return Err(Error::invalid_input("gRPC service was added before")
                .with_code(Code::AlreadyExists)
                .with_context("service", S::NAME));
        }
        let entry = Entry {
            handler: Box::new(Typed(service)),
            name: S::NAME,
            routine,
        };
        self.entries.insert(S::NAME, Arc::new(entry));
        let mut names = self.names.0.write().unwrap_or_else(PoisonError::into_inner);
        names.push(S::NAME);
        Ok(())
    }

    pub(crate) fn names(&self) -> Names {
        self.names.clone()
    }

    pub(crate) fn require(&mut self, target: &str, requirement: Requirement) -> Result<()> {
        let service = target.split_once('/').map_or(target, |(service, _)| service);
        if !self.entries.contains_key(service) {
            return Err(
                Error::invalid_input("a requirement is for a service that was not added")
                    .with_context("target", target),
            );
        }
        let requirements = self.requirements.entry(target.to_owned()).or_default();
        requirements.push(requirement);
        if target.contains('/') {
            self.declared.insert(target.to_owned());
        }
        Ok(())
    }

    /// These methods, `service/method`, exist as far as their services are added, sooner or later.
    pub(crate) fn declare(&mut self, methods: impl IntoIterator<Item = String>) {
        self.declared.extend(methods);
    }

    /// The method that a path means. `None` when there is no such service.
    pub(super) fn find(&self, path: &str) -> Option<Arc<Method>> {
        let name = path.strip_prefix('/')?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(method) = known.get(name) {
            return Some(Arc::clone(method));
        }
        drop(known);
        let (service, _) = name.split_once('/')?;
        let entry = self.entries.get(service)?;
        let requirements = [service, name].into_iter();
        let requirements = requirements.filter_map(|target| self.requirements.get(target));
        let method = Arc::new(Method {
            name: name.into(),
            known: self.declared.contains(name),
            entry: Arc::clone(entry),
            requirements: requirements.flatten().cloned().collect(),
        });
        if method.known {
            self.remember(&method);
        }
        Some(method)
    }

    /// Remembers that `method` exists.
    pub(super) fn learn(&self, method: &Method) {
        self.remember(&Arc::new(Method {
            name: Arc::clone(&method.name),
            known: true,
            entry: Arc::clone(&method.entry),
            requirements: method.requirements.clone(),
        }));
    }

    fn remember(&self, method: &Arc<Method>) {
        let mut methods = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if methods.len() < MAX_KNOWN {
            methods.insert(Arc::clone(&method.name), Arc::clone(method));
        }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Method {
    pub(super) fn service(&self) -> &'static str {
        self.entry.name
    }

    pub(super) fn call(&self, request: Request<Body>) -> Answering {
        self.entry.handler.call(request)
    }
}
