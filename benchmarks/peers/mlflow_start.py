"""MLflow's server with a model of ONNX Runtime: mlflow_start.py FOLDER PORT saves it and becomes `mlflow models serve`."""

import os
import shutil
import sys

import mlflow
import numpy as np


class Housing(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(context.artifacts["graph"], options)

    def predict(self, context, model_input, params=None):
        feed = {
            given.name: model_input[given.name].to_numpy(object if "string" in given.type else np.float64)
            for given in self.session.get_inputs()
        }
        return self.session.run(None, feed)[0]


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    shutil.rmtree(folder, ignore_errors=True)
    mlflow.pyfunc.save_model(
        folder, python_model=Housing(), artifacts={"graph": os.environ["GRAPH"]}, pip_requirements=["mlflow"]
    )
    program = os.path.join(os.path.dirname(sys.executable), "mlflow")
    os.environ["PATH"] = os.path.dirname(sys.executable) + ":" + os.environ["PATH"]
    os.execv(program, [program, "models", "serve", "--env-manager", "local", "--workers", "1", "--host", "127.0.0.1",
                       "--port", port, "--model-uri", folder])  # fmt: skip
