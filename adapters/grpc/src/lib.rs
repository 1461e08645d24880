//! gRPC server, layers and client channel for cqi services, on tonic.
