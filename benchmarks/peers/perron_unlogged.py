"""Perron's server of one bundle with a log that writes nothing: perron_unlogged.py BUNDLE FOLDER PORT. To see what the log costs."""

import sys
from pathlib import Path

from perron.bundle import load
from perron.predictions import PredictionLog
from perron.serve.alone import Alone
from perron.serve.app import Settings
from perron.serve.http import Address
from perron.serve.workers import serve

bundle, folder, port = load(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
PredictionLog.append = lambda self, lines: None
alone = Alone(bundle.name, bundle.path, bundle.digest, folder / "predictions")
settings = Settings(folder / "predictions", windows=folder / "windows")
serve(settings, lambda: alone, Address("127.0.0.1", port), workers=1, announce=lambda plan: None)
