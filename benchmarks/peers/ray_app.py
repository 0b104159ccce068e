"""Ray Serve, one replica of ONNX Runtime: ray_app.py FOLDER PORT. 128 requests may be under way, as Ray's docs advise."""

import os
import sys
import time

import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=128)
class Housing:
    def __init__(self, graph):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, options)

    async def __call__(self, request: Request):
        rows = (await request.json())["rows"]
        feed = {
            given.name: np.array([row[given.name] for row in rows], object if "string" in given.type else float)
            for given in self.session.get_inputs()
        }
        return {"predictions": self.session.run(None, feed)[0].tolist()}


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=folder, num_cpus=2)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(Housing.bind(os.environ["GRAPH"]))
    while True:
        time.sleep(3600)
