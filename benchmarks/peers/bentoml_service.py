"""BentoML with adaptive batching and ONNX Runtime: `bentoml serve bentoml_service:Housing`."""

import os

import bentoml
import numpy as np
import onnxruntime
from pydantic import BaseModel


class House(BaseModel):
    longitude: float
    latitude: float
    housing_median_age: float
    total_rooms: float
    total_bedrooms: float
    population: float
    households: float
    median_income: float
    ocean_proximity: str


@bentoml.service(workers=1)
class Housing:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["GRAPH"], options)

    @bentoml.api(batchable=True, max_batch_size=1000)
    def predict(self, rows: list[House]) -> list[float]:
        feed = {
            given.name: np.array(
                [getattr(row, given.name) for row in rows], object if "string" in given.type else float
            )
            for given in self.session.get_inputs()
        }
        return self.session.run(None, feed)[0].tolist()
