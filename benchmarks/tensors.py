"""Images as binary tensors of the Open Inference Protocol, 64 × 3 × 32 × 32 a request, beside a handler with nothing around.

The model is a small convolution (16 filters of 3 × 3, ReLU, mean, 10 classes). *JSON* is the same request with
its numbers as text. Contenders take turns; figures are medians of the rounds, ratios are formed within a round.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from common import (
    CACHE,
    PERRON,
    Process,
    about,
    environment,
    free_port,
    median,
    need,
    parser,
    peer_python,
    run,
    same_version,
    table,
)
from onnx import TensorProto, helper, numpy_helper

PEERS = Path(__file__).parent / "peers"
SHAPE = (64, 3, 32, 32)
INFER = "/v2/models/images/infer"
LUA = """
local file = io.open(os.getenv("BODY"), "rb")
local body = file:read("*a")
local headers = {["Content-Type"] = "application/octet-stream"}
if os.getenv("HEAD") ~= "" then headers["Inference-Header-Content-Length"] = os.getenv("HEAD") end
if os.getenv("JSON") == "1" then headers["Content-Type"] = "application/json" end
wrk.method, wrk.body, wrk.headers = "POST", body, headers
function done(all, latency)
  local e = all.errors
  print(string.format("FIGURES %d %d %d %d %d", all.requests, all.duration,
    latency:percentile(50), latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
end
"""


def write_model(path: Path) -> None:
    chance = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(chance.normal(size=(16, 3, 3, 3)).astype(np.float32), "filters"),
        numpy_helper.from_array(chance.normal(size=(16, 10)).astype(np.float32), "classes"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "filters"], ["edges"], strides=[2, 2]),
        helper.make_node("Relu", ["edges"], ["lit"]),
        helper.make_node("GlobalAveragePool", ["lit"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "classes"], ["scores"]),
    ]
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *SHAPE[1:]])
    found = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "images", [given], [found], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=4, help="of each run of wrk (default: 4)")
    given = options.parse_args()
    need(shutil.which("wrk") is not None, "wrk is missing; install it: apt install wrk")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tensors-", dir=CACHE) as folder:
        work = Path(folder)
        write_model(work / "images.onnx")
        project = work / "project"
        project.mkdir()
        run([str(PERRON), "register", "images", str(work / "images.onnx")], project)
        array = np.random.default_rng(1).random(SHAPE, np.float32)
        inputs = {"name": "images", "shape": SHAPE, "datatype": "FP32"}
        ask = {"outputs": [{"name": "scores", "parameters": {"binary_data": True}}]}
        head = json.dumps({"inputs": [{**inputs, "parameters": {"binary_data_size": array.nbytes}}], **ask}).encode()
        text = json.dumps({"inputs": [{**inputs, "data": array.ravel().tolist()}]}).encode()
        python = peer_python("granian", same_version("granian", "msgspec", "uvloop", "onnxruntime", "numpy"))
        env = {"GRAPH": str(work / "images.onnx"), "SHAPE": ",".join(map(str, SHAPE))}
        perron = lambda port: [str(PERRON), "serve", "--port", str(port), "--project", str(project)]  # noqa: E731
        bare = lambda port: [  # noqa: E731
            str(python), "-m", "granian", "--interface", "rsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--http", "1", "--no-ws", "--loop", "uvloop", "--no-log", "--working-dir", str(PEERS), "limit_tensors:app",
        ]  # fmt: skip
        contenders = {
            "granian + ONNX Runtime, bare": (bare, "/", array.tobytes(), "", "0"),
            "**perron serve**, binary tensors": (perron, INFER, head + array.tobytes(), str(len(head)), "0"),
            "**perron serve**, JSON": (perron, INFER, text, "", "1"),
        }
        (work / "load.lua").write_text(LUA)
        rounds: dict[str, list[tuple[float, float, float, int]]] = {name: [] for name in contenders}
        for number in range(given.rounds):
            for name, (command, path, body, head_size, is_json) in contenders.items():
                port = free_port()
                (work / "body").write_bytes(body)
                with Process(command(port), work / "server.log", cwd=work, env=environment(**env), cores={0}) as server:
                    server.listening(port)
                    for seconds in (1, max(round(given.seconds), 1)):
                        said = subprocess.run(
                            ["wrk", "-t1", "-c4", f"-d{seconds}s", "-s", str(work / "load.lua"), f"http://127.0.0.1:{port}{path}"],
                            env={**os.environ, "BODY": str(work / "body"), "HEAD": head_size, "JSON": is_json},
                            capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {1}),
                        ).stdout  # fmt: skip
                    figures = next(line for line in said.splitlines() if line.startswith("FIGURES")).split()[1:]
                requests, took, p50, p99, errors = map(int, figures)
                rounds[name].append(((requests - errors) / took * 1e6, p50 / 1e3, p99 / 1e3, errors))
                print(f"round {number + 1} {name}: {rounds[name][-1][0]:.0f} req/s", file=sys.stderr)
    first = next(iter(rounds.values()))
    lines = [
        [
            name, f"{median(r[0] for r in found):,.0f}", f"{median(r[0] for r in found) * SHAPE[0]:,.0f}",
            f"{median(a[0] / b[0] for a, b in zip(found, first, strict=True)):.2f}",
            f"{median(r[1] for r in found):.1f} / {median(r[2] for r in found):.1f}", sum(r[3] for r in found),
        ]
        for name, found in rounds.items()
    ]  # fmt: skip
    print(f"{about()}; load {os.getloadavg()[0]:.1f}; {given.rounds} rounds of {given.seconds:g} s, 4 connections\n")
    print(table(["server", "req/s", "images/s", "× bare", "p50 / p99 ms", "errors"], lines))


if __name__ == "__main__":
    main()
