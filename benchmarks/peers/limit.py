"""The limit: granian's RSGI, msgspec and onnxruntime with nothing around them: no checks, no log, no ids."""

import os

import msgspec
import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])
TYPES = {"tensor(string)": object, "tensor(double)": np.float64}
inputs = [(given.name, TYPES[given.type]) for given in session.get_inputs()]

Row = msgspec.defstruct("Row", [(name, str if kind is object else float) for name, kind in inputs], gc=False)
Request = msgspec.defstruct("Request", [("rows", list[Row])], gc=False)
decode, encode = msgspec.json.Decoder(Request).decode, msgspec.json.Encoder().encode
HEADERS = [("content-type", "application/json")]


async def app(scope, protocol):
    rows = decode(await protocol()).rows
    feed = {name: np.array([getattr(row, name) for row in rows], kind) for name, kind in inputs}
    values = session.run(None, feed)[0].tolist()
    protocol.response_bytes(200, HEADERS, encode({"predictions": values}))
