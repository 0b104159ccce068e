"""rows.parquet scored by MLflow's pyfunc into mlflow.parquet.

save PIPELINE makes an MLflow model of a scikit-learn pipeline from joblib; score scores.
"""

import sys

import pandas as pd

if sys.argv[1] == "save":
    import joblib
    import mlflow.sklearn

    form = {}
    if "serialization_format" in mlflow.sklearn.save_model.__code__.co_varnames:
        form = {"serialization_format": "cloudpickle"}
    mlflow.sklearn.save_model(joblib.load(sys.argv[2]), "mlflow-model", **form)
else:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model("mlflow-model")
    rows = pd.read_parquet("rows.parquet")
    rows["prediction"] = model.predict(rows)
    rows.to_parquet("mlflow.parquet")
