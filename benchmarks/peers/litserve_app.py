"""LitServe with ONNX Runtime: litserve_app.py PORT. Without its batching, which costs it more than it gives here."""

import os
import sys

import litserve
import numpy as np


class Housing(litserve.LitAPI):
    def setup(self, device):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["GRAPH"], options)

    def decode_request(self, request):
        return {
            given.name: np.array(
                [row[given.name] for row in request["rows"]], object if "string" in given.type else float
            )
            for given in self.session.get_inputs()
        }

    def predict(self, feed):
        return self.session.run(None, feed)[0]

    def encode_response(self, output):
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Housing(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
