//! A collector of traces over OTLP/gRPC that drops what it gets.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tonic::{Request, Response, Status, transport::Server};

struct Drops;

#[tonic::async_trait]
impl TraceService for Drops {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

pub(super) async fn serve(port: u16) {
    let server = Server::builder().add_service(TraceServiceServer::new(Drops));
    let served = server.serve(([127, 0, 0, 1], port).into()).await;
    served.expect("a server that goes on");
}
