"""The limit for tensors: granian's RSGI and onnxruntime; the body is the bytes of float32 of shape SHAPE, the reply the output's."""

import os

import numpy as np
import onnxruntime

SHAPE = tuple(map(int, os.environ["SHAPE"].split(",")))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])
(given,) = session.get_inputs()
HEADERS = [("content-type", "application/octet-stream")]


async def app(scope, protocol):
    array = np.frombuffer(await protocol(), np.float32).reshape(SHAPE)
    protocol.response_bytes(200, HEADERS, session.run(None, {given.name: array})[0].tobytes())
