"""rows.parquet scored by a graph, onnxruntime alone: no checks, no ids, no log; into onnx.parquet."""

import sys

import numpy as np
import onnxruntime
import pyarrow as pa
from pyarrow import parquet

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
inputs = [(given.name, given.type) for given in session.get_inputs()]
writer = None
for batch in parquet.ParquetFile("rows.parquet").iter_batches(65_536):
    feed = {}
    for name, kind in inputs:
        if kind == "tensor(string)":
            feed[name] = np.array(batch[name].to_pylist(), object)
        else:
            feed[name] = batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(
                {"tensor(double)": "f8", "tensor(int64)": "i8"}[kind]
            )  # fmt: skip
    out = pa.Table.from_batches([batch]).append_column("prediction", pa.array(session.run(None, feed)[0]))
    writer = writer or parquet.ParquetWriter("onnx.parquet", out.schema)
    writer.write_table(out)
writer.close()
