#!/bin/sh
# Compiles the gRPC protocol to the descriptors that perron.serve.grpc reads; needs grpcio-tools.
set -eu
cd "$(dirname "$0")/../src/perron/serve"
"${PYTHON:-python3}" -m grpc_tools.protoc -I. --descriptor_set_out=inference.binpb inference.proto
