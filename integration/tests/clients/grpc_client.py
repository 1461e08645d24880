"""Calls a server by what its reflection tells: no generated code.

Reads a JSON object per line, {"call": METHOD, "request": {...}, "token": ...}, where METHOD is package.Service/Method,
"health" or "services"; prints {"code", "details", "answers"} for each.
"""
import json
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

DEADLINE = 30

channel = grpc.insecure_channel(sys.argv[1])
reflection = ProtoReflectionDescriptorDatabase(channel)
pool = DescriptorPool(reflection)


def call(method, request, metadata):
    if method == "health":
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
        return [json_format.MessageToDict(answer)]
    if method == "services":
        return sorted(reflection.get_services())
    service, name = method.split("/")
    described = pool.FindServiceByName(service).FindMethodByName(name)
    sent, received = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
    kind = channel.unary_stream if described.server_streaming else channel.unary_unary
    stub = kind(f"/{method}", request_serializer=sent.SerializeToString, response_deserializer=received.FromString)
    answer = stub(json_format.ParseDict(request, sent()), metadata=metadata, timeout=DEADLINE)
    answers = answer if described.server_streaming else [answer]
    return [json_format.MessageToDict(each, preserving_proto_field_name=True) for each in answers]


for line in sys.stdin:
    asked = json.loads(line)
    metadata = [("authorization", f"Bearer {asked['token']}")] if asked.get("token") else []
    try:
        answers = call(asked["call"], asked.get("request", {}), metadata)
        result = {"code": "OK", "details": "", "answers": answers}
    except grpc.RpcError as error:
        result = {"code": error.code().name, "details": error.details(), "answers": []}
    print(json.dumps(result), flush=True)
