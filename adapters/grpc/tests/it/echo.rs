//! A service with one method of each kind, written as tonic would generate it.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use cqi_core::{Error, auth::current};
use cqi_grpc::{GrpcError, RequestId, known, remaining_time, required};
use futures::{StreamExt as _, future::BoxFuture, stream, stream::BoxStream};
use http::uri::PathAndQuery;
use tokio::sync::Semaphore;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    client::{Grpc, GrpcService},
    codec::CompressionEncoding,
    codegen::StdError,
    server::NamedService,
};
use tonic_prost::ProstCodec;
use tower::service_fn;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Note {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    #[prost(uint64, tag = "2")]
    pub(crate) number: u64,
    #[prost(message, optional, boxed, tag = "3")]
    pub(crate) inner: Option<Box<Note>>,
    #[prost(bool, repeated, tag = "4")]
    pub(crate) flags: Vec<bool>,
    #[prost(enumeration = "Side", tag = "5")]
    pub(crate) side: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Side {
    Unspecified = 0,
    Buy = 1,
}

pub(crate) fn note(text: impl Into<String>, number: u64) -> Note {
    Note {
        text: text.into(),
        number,
        ..Note::default()
    }
}

/// Does what the text of a note says.
#[derive(Clone)]
pub(crate) struct Echo {
    /// Says that a handler waits, and lets it go on.
    pub(crate) entered: Arc<Semaphore>,
    pub(crate) go: Arc<Semaphore>,
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            entered: Arc::new(Semaphore::new(0)),
            go: Arc::new(Semaphore::new(0)),
        }
    }
}

type Notes = BoxStream<'static, Result<Note, Status>>;

impl Echo {
    pub(crate) async fn wait_entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }

    async fn act(&self, request: &Note, id: Option<RequestId>) -> cqi_grpc::Result<Note> {
        let answer = match request.text.as_str() {
            "panic" => panic!("canary"),
            "wait" => {
                self.entered.add_permits(1);
                self.go.acquire().await.map_err(GrpcError::any)?.forget();
                note("done", 0)
            }
            "hang" => {
                self.entered.add_permits(1);
                std::future::pending().await
            }
            "internal" => return Err(Error::permanent("canary").into()),
            "broken" => {
                let cause = std::io::Error::other("the disk is gone");
                return Err(Error::permanent("cannot load").with_source(cause).into());
            }
            "missing" => return Err(Error::not_found("note", request.number).into()),
            "busy" => {
                let error = Error::temporary("busy").with_retry_after(Duration::from_millis(20));
                return Err(error.into());
            }
            "needs" => {
                let side: Side = known("side", request.side)?;
                let inner = required("inner", request.inner.as_deref())?;
                note(format!("{side:?} {}", inner.text), 0)
            }
            "who" => note(current()?.service_id.clone().unwrap_or_default(), 0),
            "id" => note(id.map(|id| id.as_str().to_owned()).unwrap_or_default(), 0),
            "remaining" => {
                let left = remaining_time().map_or(0, |left| left.as_millis());
                note("remaining", u64::try_from(left).unwrap_or(u64::MAX))
            }
            "big" => note("x".repeat(usize::try_from(request.number).unwrap_or_default()), 0),
            _ => request.clone(),
        };
        Ok(answer)
    }

    async fn unary(self, request: Request<Note>) -> Result<Response<Note>, Status> {
        if request.get_ref().text == "long" {
            return Err(Status::invalid_argument("é\r\n\0".repeat(5000)));
        }
        assert!(request.remote_addr().is_some());
        let id = request.extensions().get::<RequestId>().cloned();
        Ok(Response::new(self.act(request.get_ref(), id).await?))
    }

    /// Adds the numbers up.
    async fn upload(self, request: Request<Streaming<Note>>) -> Result<Response<Note>, Status> {
        let mut notes = request.into_inner();
        let mut sum = 0;
        while let Some(note) = notes.message().await? {
            sum += note.number;
        }
        Ok(Response::new(note("sum", sum)))
    }

    /// Counts to the number, then does what the text says.
    async fn count(self, request: Request<Note>) -> Result<Response<Notes>, Status> {
        let Note { text, number, .. } = request.into_inner();
        let last = stream::once(async move {
            let answer = self.act(&note(text, 0), None).await?;
            Ok(answer)
        });
        let numbers = stream::iter((1..=number).map(|number| Ok(note("", number))));
        Ok(Response::new(numbers.chain(last).boxed()))
    }

    /// Answers each note.
    async fn chat(self, request: Request<Streaming<Note>>) -> Result<Response<Notes>, Status> {
        let answers = request.into_inner().then(move |note| {
            let echo = self.clone();
            async move { Ok(echo.act(&note?, None).await?) }
        });
        Ok(Response::new(answers.boxed()))
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "test.v1.Echo";
}

/// The same under another name.
#[derive(Clone, Default)]
pub(crate) struct Second(pub(crate) Echo);

impl NamedService for Second {
    const NAME: &'static str = "test.v1.Second";
}

impl tower::Service<http::Request<Body>> for Second {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        tower::Service::call(&mut self.0, request)
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Note, Note>::default())
                .accept_compressed(CompressionEncoding::Gzip);
            Ok(match method {
                "Unary" => {
                    grpc.unary(service_fn(move |r| echo.clone().unary(r)), request)
                        .await
                }
                "Upload" => {
                    let service = service_fn(move |r| echo.clone().upload(r));
                    grpc.client_streaming(service, request).await
                }
                "Count" => {
                    let service = service_fn(move |r| echo.clone().count(r));
                    grpc.server_streaming(service, request).await
                }
                "Chat" => {
                    grpc.streaming(service_fn(move |r| echo.clone().chat(r)), request)
                        .await
                }
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

/// A client as tonic would generate it.
#[derive(Debug, Clone)]
pub(crate) struct Client<T>(Grpc<T>);

type Codec = ProstCodec<Note, Note>;

impl<T> Client<T>
where
    T: GrpcService<Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    pub(crate) fn new(channel: T) -> Self {
        Self(Grpc::new(channel))
    }

    pub(crate) fn compressed(channel: T) -> Self {
        Self(Grpc::new(channel).send_compressed(CompressionEncoding::Gzip))
    }

    async fn ready(&mut self) -> Result<(), Status> {
        self.0
            .ready()
            .await
            .map_err(|error| Status::from_error(error.into()))
    }

    pub(crate) async fn unary(
        &mut self,
        request: impl tonic::IntoRequest<Note>,
    ) -> Result<Response<Note>, Status> {
        self.call("/test.v1.Echo/Unary", request).await
    }

    pub(crate) async fn call(
        &mut self,
        path: &'static str,
        request: impl tonic::IntoRequest<Note>,
    ) -> Result<Response<Note>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static(path);
        self.0.unary(request.into_request(), path, Codec::default()).await
    }

    /// The answer to a note with this text.
    pub(crate) async fn ask(&mut self, text: &str) -> Result<Note, Status> {
        Ok(self.unary(note(text, 7)).await?.into_inner())
    }

    pub(crate) async fn upload(&mut self, notes: Vec<Note>) -> Result<Note, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.v1.Echo/Upload");
        let request = Request::new(stream::iter(notes));
        Ok(self
            .0
            .client_streaming(request, path, Codec::default())
            .await?
            .into_inner())
    }

    pub(crate) async fn count(
        &mut self,
        request: impl tonic::IntoRequest<Note>,
    ) -> Result<Streaming<Note>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.v1.Echo/Count");
        let answer = self
            .0
            .server_streaming(request.into_request(), path, Codec::default());
        Ok(answer.await?.into_inner())
    }

    pub(crate) async fn chat(
        &mut self,
        notes: impl futures::Stream<Item = Note> + Send + 'static,
    ) -> Result<Streaming<Note>, Status> {
        self.ready().await?;
        let path = PathAndQuery::from_static("/test.v1.Echo/Chat");
        let answer = self.0.streaming(Request::new(notes), path, Codec::default());
        Ok(answer.await?.into_inner())
    }
}
