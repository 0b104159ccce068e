"""MLServer's model of ONNX Runtime, with adaptive batching; run as mlserver_housing.py FOLDER PORT it becomes `mlserver start`."""

import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput


class Housing(MLModel):
    async def load(self) -> bool:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["GRAPH"], options)
        return True

    async def predict(self, payload):
        feed = {}
        for given in payload.inputs:
            if given.datatype == "BYTES":
                feed[given.name] = np.array([v.decode() if isinstance(v, bytes) else v for v in given.data], object)
            else:
                feed[given.name] = np.array(given.data, np.float64).ravel()
        values = self.session.run(None, feed)[0].tolist()
        output = ResponseOutput(name="value", shape=[len(values), 1], datatype="FP64", data=values)
        return InferenceResponse(model_name=self.name, outputs=[output])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({
        "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "parallel_workers": 1,
        "debug": False,
    }))  # fmt: skip
    (folder / "model-settings.json").write_text(json.dumps({
        "name": "housing", "implementation": "mlserver_housing.Housing", "max_batch_size": 64, "max_batch_time": 0.005,
    }))  # fmt: skip
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    program = Path(sys.executable).parent / "mlserver"
    os.execv(program, [str(program), "start", str(folder)])
