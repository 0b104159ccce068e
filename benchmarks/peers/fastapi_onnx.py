"""FastAPI, uvicorn, pydantic and onnxruntime, written with care: typed request and reply, no thread pool."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])
app = FastAPI()


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


class Request(BaseModel):
    rows: list[House]


class Reply(BaseModel):
    predictions: list[float]


FIELDS = [(name, object if field.annotation is str else np.float64) for name, field in House.model_fields.items()]


@app.post("/predict")
async def predict(request: Request) -> Reply:
    feed = {name: np.array([getattr(row, name) for row in request.rows], kind) for name, kind in FIELDS}
    return Reply(predictions=session.run(None, feed)[0].tolist())
