"""gRPC server interceptors."""
