"""FastAPI, uvicorn, pydantic and a scikit-learn pipeline from joblib, as most tutorials have it."""

import os

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

pipeline = joblib.load(os.environ["PIPELINE"])
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


@app.post("/predict")
async def predict(request: Request) -> Reply:
    frame = pd.DataFrame([row.model_dump() for row in request.rows])
    return Reply(predictions=pipeline.predict(frame).tolist())
