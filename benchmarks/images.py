"""`perron package` cold, again, and when only the model changed; size and start of its image beside BentoML's and MLflow's.

The peers' images are what their environments have on top of a base with Python: their packages, byte code included, without
pip; the model is the very same graph. They are started from there, Perron's image by umoci and runc on a read-only root
(which needs root; without it, Perron is started as `perron serve --bundle`, and the table says so).

A base: debootstrap --variant=minbase --include=python3,ca-certificates bookworm rootfs && tar -C rootfs -cf base.tar .
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import (
    CACHE,
    PERRON,
    Process,
    about,
    body_of,
    data_option,
    environment,
    free_port,
    make_project,
    median,
    need,
    parser,
    peer_python,
    run,
    same_version,
    sample_rows,
    table,
    timed,
)  # fmt: skip

PEERS = Path(__file__).parent / "peers"
TOOLS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "uv")
QUIET = {"BENTOML_DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def main() -> None:
    options = parser(__doc__ or "")
    data_option(options)
    options.add_argument("--base", type=Path, required=True, help="the tar of a root file system with this Python")
    given = options.parse_args()
    need(given.base.is_file(), f"there is no {given.base}; see --help")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="images-", dir=CACHE) as folder:
        work = Path(folder)
        project = make_project(given.data, work / "house-prices")
        text = (project / "system.py").read_text()
        (project / "system.py").write_text(text.replace("n_estimators=200", "n_estimators=201"))
        run([str(PERRON), "run"], project)
        package = [str(PERRON), "package", "--oci", str(work / "image"), "--base", str(given.base.resolve())]
        times: dict[str, list[float]] = {
            "cold": [],
            "the base is known": [],
            "nothing changed": [],
            "only the model changed": [],
        }
        for _ in range(given.rounds):
            images = project / ".perron" / "images"
            shutil.rmtree(images, ignore_errors=True)
            times["cold"].append(timed([*package, "1"], project))
            times["nothing changed"].append(timed([*package, "1"], project))
            times["only the model changed"].append(timed([*package, "2"], project))
            for layer in images.glob("layers/*.json"):
                if json.loads(layer.read_text())["plain_size"] < given.base.stat().st_size:
                    layer.unlink()
            times["the base is known"].append(timed([*package, "1"], project))
        made = json.loads(run([*package, "1", "--json"], project))["image"]
        starts, sizes = start_all(work, project, given, made["added_bytes"] / 1e6)
    print(f"{about()}; {given.rounds} rounds; load {os.getloadavg()[0]:.1f}\n")
    print(table(["perron package --oci", "median s", "spread s"],
                [[label, f"{median(took):.2f}", f"{min(took):.2f}–{max(took):.2f}"] for label, took in times.items()]))  # fmt: skip
    print()
    stored = sum(layer["bytes"] for layer in made["layers"] if layer["part"] != "base") / 1e6
    print(
        f"Stored, on top of the base: {stored:.0f} MB; the model's layer {made['layers'][-1]['bytes'] / 1e6:.1f} MB.\n"
    )
    print(table(["image", "MB on top of the base", "first answer, median s", "spread s"],
                [[label, f"{sizes[label]:.0f}", f"{median(took):.2f}", f"{min(took):.2f}–{max(took):.2f}"] for label, took in starts.items()]))  # fmt: skip


def start_all(
    work: Path, project: Path, given: object, own_mb: float
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds to the first answer by contender, in turns after a first start that isn't counted, and MB on top of the base."""
    rows = sample_rows(given.data, 1)  # type: ignore[attr-defined]
    ours = body_of(rows)
    split = json.dumps({"dataframe_split": {"columns": list(rows[0]), "data": [list(rows[0].values())]}}).encode()
    version = 1
    graph = sorted((project / ".perron" / "bundles").glob("*/model.onnx"))[0]
    bento = peer_python("bentoml", ["bentoml", *same_version("onnxruntime")])
    mlflow = peer_python("mlflow", ["mlflow", *same_version("onnxruntime")])
    saved = work / "mlflow-model"
    run([str(mlflow), "-c", SAVE, str(PEERS), str(graph), str(saved)])

    def start(command: Callable[[int], list[str]], path: str, body: bytes, **env: str) -> float:
        port = free_port()
        with Process(
            command(port), work / "server.log", cwd=work, env=environment(GRAPH=str(graph), **QUIET, **env)
        ) as server:
            return server.first_answer(port, path, body)

    def image() -> float:
        return start(lambda port: container(work, port), "/v1/predictions", ours)

    def bundle() -> float:
        words = [str(PERRON), "serve", str(version), "--bundle", str(graph.parent), "--log-folder", str(work / "log")]
        return start(lambda port: [*words, "--port", str(port)], "/v1/predictions", ours)

    def bentoml() -> float:
        words = [str(bento), "-m", "bentoml", "serve", "--host", "127.0.0.1", "--working-dir", str(PEERS)]
        return start(lambda port: [*words, "--port", str(port), "bentoml_service:Housing"], "/predict", ours)

    def mlflow_server() -> float:
        words = [
            str(mlflow.parent / "mlflow"),
            "models",
            "serve",
            "--env-manager",
            "local",
            "--workers",
            "1",
            "--host",
            "127.0.0.1",
        ]
        path = f"{mlflow.parent}:{os.environ['PATH']}"
        return start(
            lambda port: [*words, "--port", str(port), "--model-uri", str(saved)], "/invocations", split, PATH=path
        )

    can_run = os.geteuid() == 0 and all(map(shutil.which, ("umoci", "runc")))
    if can_run:
        run(["umoci", "unpack", "--image", f"{work / 'image'}:1", str(work / "unpacked")])
    label = "**Perron**, its image by runc" if can_run else "**Perron**, `perron serve --bundle`"
    contenders = {label: image if can_run else bundle, "BentoML": bentoml, "MLflow": mlflow_server}
    for contender in contenders.values():
        contender()
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(given.rounds):  # type: ignore[attr-defined]
        for name, contender in contenders.items():
            took[name].append(contender())
    return took, {label: own_mb, "BentoML": packages_mb(bento), "MLflow": packages_mb(mlflow)}


SAVE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import mlflow, mlflow_start
mlflow.pyfunc.save_model(sys.argv[3], python_model=mlflow_start.Housing(), artifacts={"graph": sys.argv[2]}, pip_requirements=["mlflow"],
                         code_paths=[mlflow_start.__file__])
"""


def container(work: Path, port: int) -> list[str]:
    """The command that runs the unpacked image on a read-only root, in this machine's network."""
    config = json.loads((work / "unpacked" / "config.json").read_text())
    config["process"] |= {"terminal": False, "capabilities": {}}
    config["process"]["args"] += ["--port", str(port), "--allow-anonymous"]
    config["root"] = {"path": str(work / "unpacked" / "rootfs"), "readonly": True}
    config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "network"]
    config["linux"].pop("resources", None)
    config["mounts"] = [one for one in config["mounts"] if one["type"] not in ("cgroup", "sysfs", "mqueue")]
    config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]})
    bundle = work / f"bundle-{port}"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config))
    return ["runc", "--root", str(work / "runc"), "run", "--bundle", str(bundle), f"perron-{port}"]


def packages_mb(python: Path) -> float:
    """MB of an environment's packages with their byte code, without what installed them."""
    (site,) = python.parent.parent.glob("lib/python3*/site-packages")
    subprocess.run([str(python), "-m", "compileall", "-q", str(site)], check=False, capture_output=True)
    return sum(
        path.stat().st_size
        for path in site.rglob("*")
        if path.is_file() and path.relative_to(site).parts[0].partition("-")[0] not in TOOLS
    ) / 1e6  # fmt: skip


if __name__ == "__main__":
    main()
