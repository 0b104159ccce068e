"""Models in; a Grafana board as JSON and the files that provision it out.

grafana/provisioning/datasources/perron.yml    where Prometheus is
grafana/provisioning/dashboards/perron.yml     where the board is
grafana/dashboards/perron.json                 the board
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from perron.ship.prometheus import HEAD
from perron.ship.yaml import to_yaml

__all__ = ["board", "grafana_files"]

SOURCE = {"type": "prometheus", "uid": "perron-prometheus"}
WIDTH = 24
OF = 'model=~"$model"'
WAY = "{{model}} {{version}} {{route}}"


@dataclass(frozen=True)
class _Panel:
    title: str
    words: str
    targets: tuple[tuple[str, str], ...]  # expression, legend
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    limit: float | None = None


ROWS: tuple[tuple[str, tuple[_Panel, ...]], ...] = (
    (
        "At a glance",
        (
            _Panel("Servers", "That can be asked.", (('sum(up{job="perron"})', ""),), kind="stat", width=4, height=5),
            _Panel("Requests", "Answered, a second.", ((f"sum(model:perron_requests:rate5m{{{OF}}})", ""),), "reqps", "stat", 4, 5),
            _Panel("Errors", "The share of requests that a model or the log failed.",
                   ((f"sum(model:perron_errors:rate5m{{{OF}}}) / (sum(model:perron_requests:rate5m{{{OF}}} + model:perron_errors:rate5m{{{OF}}}) > 0)", ""),),
                   "percentunit", "stat", 4, 5),
            _Panel("Slowest 1 %", "Of requests take at least this.", ((f"max(model:perron_request_seconds:p99_5m{{{OF}}})", ""),), "s", "stat", 4, 5),
            _Panel("Budget burn", "How many times as fast as it may the error budget burns, over an hour.",
                   (("service:perron_budget_burn:rate1h", ""),), "short", "stat", 4, 5),
            _Panel("Worst drift", "0 none, 1 low, 2 medium, 3 high.", ((f"max(perron_drift_severity{{{OF}}})", ""),), "short", "stat", 4, 5),
        ),
    ),
    (
        "Traffic",
        (
            _Panel("Requests", "Answered, by version and route.", ((f"model:perron_requests:rate5m{{{OF}}}", WAY),), "reqps"),
            _Panel("Rows", "Predicted, by version and route.", ((f"model:perron_rows:rate5m{{{OF}}}", WAY),), "rows/s"),
            _Panel("Errors", "The share of requests that a model or the log failed.", ((f"model:perron_errors:share5m{{{OF}}}", WAY),), "percentunit"),
            _Panel("Refusals", "By reason: the asker's (malformed, token, …) and the service's (busy, too_late, log).",
                   (("reason:perron_requests_refused:rate5m", "{{reason}}"),), "reqps"),
            _Panel("Rows that aren't logged", "Answered though the prediction log failed.", ((f"model:perron_unlogged:rate5m{{{OF}}}", WAY),), "rows/s"),
            _Panel("Versions that answer", "By route.", ((f"max by (model, version, route) (perron_model_info{{{OF}}})", WAY),), kind="table"),
        ),
    ),
    (
        "Latency and load",
        (
            _Panel("Latency", "From a request's body to its answer.", (
                (f"model:perron_request_seconds:p50_5m{{{OF}}}", f"half · {WAY}"),
                (f"model:perron_request_seconds:p95_5m{{{OF}}}", f"95 % · {WAY}"),
                (f"model:perron_request_seconds:p99_5m{{{OF}}}", f"99 % · {WAY}"),
            ), "s"),
            _Panel("Rows that are predicted together", "The mean.", ((f"model:perron_batch_rows:mean5m{{{OF}}}", WAY),)),
            _Panel("Rows that wait", "The most, by server.", (("instance:perron_queue_rows:max5m", "{{instance}}"),)),
        ),
    ),
    (
        "Error budget",
        (
            _Panel("Burn", "1 uses the budget up exactly in its time.",
                   tuple((f"service:perron_budget_burn:rate{window}", window) for window in ("5m", "30m", "1h", "6h")), width=16, limit=1.0),
            _Panel("Rollbacks", "Rollouts that ended by themselves.", (("sum by (kind) (perron_rollbacks_total) or vector(0)", "{{kind}}"),)),
        ),
    ),
    (
        "Drift",
        (
            _Panel("Distance", "Of each column from what the model was trained on.",
                   ((f"max by (model, version, column) (perron_drift{{{OF}}})", "{{model}} {{version}} {{column}}"),), width=12),
            _Panel("Severity", "0 none, 1 low, 2 medium, 3 high.",
                   ((f"max by (model, version, column) (perron_drift_severity{{{OF}}})", "{{model}} {{version}} {{column}}"),), width=12, limit=2.0),
        ),
    ),
    (
        "Processes",
        (
            _Panel("CPU", "Cores, by worker.", (('rate(perron_process_cpu_seconds_total[5m])', "{{instance}} {{worker}}"),)),
            _Panel("Memory", "Resident, by worker.", (("perron_process_resident_bytes", "{{instance}} {{worker}}"),), "bytes"),
            _Panel("Open files", "Of those allowed.", (("perron_process_open_files / perron_process_max_files", "{{instance}} {{worker}}"),), "percentunit"),
            _Panel("Disk", "That is full, with the project.", (("1 - perron_disk_free_bytes / perron_disk_bytes", "{{instance}}"),), "percentunit", limit=0.9),
            _Panel("GPU", "Of the time that it worked, where there is one.", (("perron_gpu_busy_share", "{{instance}} {{gpu}} {{name}}"),), "percentunit"),
            _Panel("GPU memory", "That is taken.", (("perron_gpu_used_bytes / perron_gpu_memory_bytes", "{{instance}} {{gpu}} {{name}}"),), "percentunit"),
        ),
    ),
)  # fmt: skip


def grafana_files(
    name: str,
    *,
    prometheus_url: str = "http://prometheus:9090",
    boards_folder: str = "/var/lib/grafana/dashboards/perron",
) -> dict[str, str]:
    """The files by path.

    Args:
        name: of the system, in the board's title.
        prometheus_url: as Grafana reaches it.
        boards_folder: where Grafana sees the folder `grafana/dashboards`.
    """
    source = {"name": "Perron's Prometheus", **SOURCE, "access": "proxy", "url": prometheus_url, "editable": True}
    provider = {
        "name": "perron", "type": "file", "allowUiUpdates": False, "disableDeletion": False,
        "options": {"path": boards_folder},
    }  # fmt: skip
    return {
        "grafana/provisioning/datasources/perron.yml": to_yaml({"apiVersion": 1, "datasources": [source]}, head=HEAD),
        "grafana/provisioning/dashboards/perron.yml": to_yaml({"apiVersion": 1, "providers": [provider]}, head=HEAD),
        "grafana/dashboards/perron.json": json.dumps(board(name), indent=2, ensure_ascii=False) + "\n",
    }


def board(name: str) -> dict[str, Any]:
    """The board as Grafana's JSON model."""
    variable = {
        "name": "model", "label": "Model", "type": "query", "datasource": SOURCE, "refresh": 2, "includeAll": True,
        "multi": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
        "query": {"query": "label_values(perron_requests_total, model)", "refId": "model"},
    }  # fmt: skip
    return {
        "uid": f"perron-{name}"[:40],
        "title": f"Perron: {name}",
        "description": HEAD,
        "tags": ["perron"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [variable]},
        "annotations": {"list": []},
        "panels": [{"id": number, **panel} for number, panel in enumerate(_panels(), 1)],
    }


def _panels() -> Iterator[dict[str, Any]]:
    """Rows and their panels, from left to right and down."""
    y = 0
    for title, panels in ROWS:
        yield {
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        }
        y, x = y + 1, 0
        for panel in panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + panel.height
            yield _panel(panel, x, y)
            x += panel.width
        y += max(panel.height for panel in panels)


def _panel(panel: _Panel, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries" and panel.limit is not None:
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
    is_instant = panel.kind == "table"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.words,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
        "targets": [
            {
                "refId": "ABCDEFGH"[place], "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto",
                "instant": is_instant, "range": not is_instant, "format": "table" if is_instant else "time_series",
            }
            for place, (expr, legend) in enumerate(panel.targets)
        ],
    }  # fmt: skip
