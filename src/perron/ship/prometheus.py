"""Limits of a service in; what Prometheus reads out: its configuration, recording rules, alert rules and their tests.

    prometheus/prometheus.yml             whom to ask, and the rules
    prometheus/rules/perron.yml           recording rules, from what `/metrics` of `perron serve` tells
    prometheus/rules/perron-alerts.yml    alert rules on them
    prometheus/tests/perron.yml           `promtool test rules` proves both on series whose answer is known

The names of recorded series are level:metric:operation. Of an answer counts as bad what is the service's fault: a model
or a log that failed, a full queue, a deadline that passed; not what is the asker's.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from perron.errors import DeclarationError
from perron.levels import FAST_BURN, SLOW_BURN, ServiceLimits
from perron.ship.yaml import to_yaml

__all__ = ["WINDOWS", "prometheus_files"]

HEAD = "Written by `perron ship monitoring`, which leaves it alone once you changed it."
LABELS = "model, version, route"
WINDOWS = ("5m", "30m", "1h", "6h")


def prometheus_files(
    models: Sequence[str],
    limits: ServiceLimits | None = None,
    *,
    targets: Sequence[str] = ("http://127.0.0.1:8000",),
    token_file: str | None = None,
    interval_s: int = 15,
) -> dict[str, str]:
    """The files by path.

    Args:
        models: that must have traffic, once they had.
        limits: when there is an alert.
        targets: servers, `http://host:port` or `https://host:port`, all by the same scheme.
        token_file: holds a bearer token with the scope `read`, for servers that ask for one.
        interval_s: between two scrapes.

    Raises:
        DeclarationError: a target that isn't such an address, or a token's file without a name.
    """
    limits = limits or ServiceLimits()
    return {
        "prometheus/prometheus.yml": to_yaml(_config(targets, token_file, interval_s), head=HEAD),
        "prometheus/rules/perron.yml": to_yaml(_recording(limits), head=HEAD),
        "prometheus/rules/perron-alerts.yml": to_yaml(_alerts(models, limits), head=HEAD),
        "prometheus/tests/perron.yml": to_yaml(_tests(models, limits), head=HEAD),
    }


def _config(targets: Sequence[str], token_file: str | None, interval_s: int) -> dict[str, Any]:
    parts = [urlsplit(target) for target in targets]
    for target, part in zip(targets, parts, strict=True):
        if part.scheme not in ("http", "https") or not part.hostname or part.path.strip("/") or "@" in part.netloc:
            raise DeclarationError(f"The target is {target!r}; give a server such as http://127.0.0.1:8000.")
    schemes = {part.scheme for part in parts}
    if len(schemes) != 1:
        raise DeclarationError("The targets are of http and of https; give those of one scheme.")
    job: dict[str, Any] = {
        "job_name": "perron",
        "scheme": schemes.pop(),
        "static_configs": [{"targets": [part.netloc for part in parts]}],
    }
    if token_file is not None:
        if not token_file.strip():
            raise DeclarationError("The token's file has no name; give its path as Prometheus sees it.")
        job["authorization"] = {"type": "Bearer", "credentials_file": token_file}
    return {
        "global": {"scrape_interval": f"{interval_s}s", "evaluation_interval": f"{interval_s}s"},
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [job],
    }


# ------------------------------------------------------------------ recording rules


def _recording(limits: ServiceLimits) -> dict[str, Any]:
    rate = {
        "requests": f"sum by ({LABELS}) (rate(perron_requests_total[5m]))",
        "rows": f"sum by ({LABELS}) (rate(perron_predictions_total[5m]))",
        "errors": f"sum by ({LABELS}) (rate(perron_prediction_errors_total[5m]))",
        "unlogged": f"sum by ({LABELS}) (rate(perron_predictions_unlogged_total[5m]))",
    }
    rules = [{"record": f"model:perron_{name}:rate5m", "expr": expr} for name, expr in rate.items()]
    answered = "(model:perron_requests:rate5m + model:perron_errors:rate5m > 0)"
    rules.append({"record": "model:perron_errors:share5m", "expr": f"model:perron_errors:rate5m / {answered}"})
    rules += [
        {
            "record": f"model:perron_request_seconds:p{percent}_5m",
            "expr": f"histogram_quantile({percent / 100:g}, sum by ({LABELS}, le) (rate(perron_request_seconds_bucket[5m])))",
        }
        for percent in (50, 95, 99)
    ]
    batches = f"(sum by ({LABELS}) (rate(perron_batch_rows_count[5m])) > 0)"
    rules += [
        {
            "record": "model:perron_batch_rows:mean5m",
            "expr": f"sum by ({LABELS}) (rate(perron_batch_rows_sum[5m])) / {batches}",
        },
        {
            "record": "reason:perron_requests_refused:rate5m",
            "expr": "sum by (reason) (rate(perron_requests_refused_total[5m]))",
        },
        {
            "record": "instance:perron_queue_rows:max5m",
            "expr": "max by (instance) (max_over_time(sum by (instance) (perron_queue_rows)[5m:]))",
        },
    ]
    budget = f"{1 - limits.availability:.9g}"
    burn = [
        rule
        for window in WINDOWS
        for rule in (
            {"record": f"service:perron_bad:share{window}", "expr": _bad_share(window)},
            {
                "record": f"service:perron_budget_burn:rate{window}",
                "expr": f"service:perron_bad:share{window} / {budget}",
            },
        )
    ]
    return {"groups": [{"name": "perron", "rules": rules}, {"name": "perron budget", "rules": burn}]}


def _bad_share(window: str) -> str:
    refused = f'(sum(rate(perron_requests_refused_total{{reason=~"busy|too_late"}}[{window}])) or vector(0))'
    bad = f"(sum(rate(perron_prediction_errors_total[{window}])) + {refused})"
    return f"{bad} / (sum(rate(perron_requests_total[{window}])) + {bad} > 0)"


# ------------------------------------------------------------------ alert rules


def _alerts(models: Sequence[str], limits: ServiceLimits) -> dict[str, Any]:
    of = "{{ $labels.model }} version {{ $labels.version }} on {{ $labels.route }}"
    p99_s = f"{limits.max_p99_ms / 1000:g}"
    had = "sum by (model) (rate(perron_requests_total[1d] offset 15m)) > 0"
    rolled_back = "(perron_rollbacks_total - perron_rollbacks_total offset 15m or perron_rollbacks_total) > 0"
    rules = [
        _alert("PerronDown", 'up{job="perron"} == 0', "2m", "critical", "{{ $labels.instance }} can't be asked."),
        *(
            [_alert(
                "PerronNoTraffic",
                f'sum by (model) (rate(perron_requests_total{{model=~"{"|".join(models)}"}}[15m])) == 0 and {had}',
                "15m", "warning", "{{ $labels.model }} has had no request for half an hour.",
            )] if models else []
        ),
        _alert(
            "PerronErrors", f"model:perron_errors:share5m > {limits.max_error_share:g}", "5m", "critical",
            of + ": {{ $value | humanizePercentage }} of the requests fail.",
        ),
        _alert(
            "PerronSlow", f"model:perron_request_seconds:p99_5m > {p99_s}", "10m", "warning",
            of + ": the slowest 1 % take {{ $value | humanizeDuration }} or more.",
        ),
        _alert(
            "PerronUnlogged", "model:perron_unlogged:rate5m > 0", "0m", "critical",
            of + ": rows are answered that the prediction log doesn't hold.",
        ),
        _alert(
            "PerronLogFails", 'reason:perron_requests_refused:rate5m{reason="log"} > 0', "1m", "critical",
            "The prediction log can't be written: requests are refused.",
        ),
        _alert(
            "PerronQueueFull",
            f'reason:perron_requests_refused:rate5m{{reason="busy"}} > 0 or instance:perron_queue_rows:max5m > {limits.max_queue_rows}',
            "1m", "warning", "More rows wait than can be predicted in time.",
        ),
        _alert("PerronRolledBack", rolled_back, "0m", "warning", "A rollout of {{ $labels.kind }} ended by itself."),
        _alert(
            "PerronBudgetBurnsFast",
            f"service:perron_budget_burn:rate1h > {FAST_BURN:g} and service:perron_budget_burn:rate5m > {FAST_BURN:g}",
            "2m", "critical", "The error budget burns {{ $value | humanize }} times as fast as it may.",
        ),
        _alert(
            "PerronBudgetBurns",
            f"service:perron_budget_burn:rate6h > {SLOW_BURN:g} and service:perron_budget_burn:rate30m > {SLOW_BURN:g}",
            "15m", "warning", "The error budget burns {{ $value | humanize }} times as fast as it may.",
        ),
        _alert(
            "PerronDrift", f"perron_drift_severity >= {limits.least_drift_severity}", "0m", "warning",
            "{{ $labels.column }} of {{ $labels.model }} version {{ $labels.version }} has drifted.",
        ),
    ]  # fmt: skip
    return {"groups": [{"name": "perron alerts", "rules": rules}]}


def _alert(name: str, expr: str, after: str, severity: str, summary: str) -> dict[str, Any]:
    return {
        "alert": name, "expr": expr, "for": after, "labels": {"severity": severity}, "annotations": {"summary": summary},
    }  # fmt: skip


# ------------------------------------------------------------------ their tests


def _tests(models: Sequence[str], limits: ServiceLimits) -> dict[str, Any]:
    """A service that is well, and one that is ill in every way: no alert for the first, each alert for the second."""
    model = models[0] if models else "model"
    way = f'model="{model}",version="1",route="champion"'
    slow = limits.max_p99_ms / 1000
    quick_bound, slow_bound = f"{slow / 2:g}", f"{slow * 4:g}"

    def series(errors: int, busy: int, quick: int, severity: int) -> list[dict[str, str]]:
        """Counters that grow by so much a minute, over eight hours."""
        growing = {
            f"perron_requests_total{{{way}}}": 600,
            f"perron_prediction_errors_total{{{way}}}": errors,
            f"perron_predictions_unlogged_total{{{way}}}": errors,
            'perron_requests_refused_total{reason="busy"}': busy,
            'perron_requests_refused_total{reason="log"}': busy,
            f'perron_request_seconds_bucket{{{way},le="{quick_bound}"}}': quick,
            f'perron_request_seconds_bucket{{{way},le="{slow_bound}"}}': 600,
            f'perron_request_seconds_bucket{{{way},le="+Inf"}}': 600,
        }
        found = [{"series": name, "values": f"0+{step}x480"} for name, step in growing.items()]
        return [
            *found,
            {"series": f'perron_drift_severity{{model="{model}",version="1",column="x"}}', "values": f"{severity}x480"},
            {"series": 'up{job="perron",instance="a"}', "values": f"{int(not errors)}x480"},
            {"series": f'perron_rollbacks_total{{kind="{model}"}}', "values": f"_x470 {int(bool(errors))}x9"},
        ]

    burn = 2 / 3 / (1 - limits.availability)  # of the ill one
    mild = {
        "PerronErrors": limits.max_error_share >= 0.5,
        "PerronBudgetBurnsFast": burn <= FAST_BURN,
        "PerronBudgetBurns": burn <= SLOW_BURN,
    }
    names = (
        "PerronDown", "PerronErrors", "PerronSlow", "PerronUnlogged", "PerronLogFails", "PerronQueueFull",
        "PerronRolledBack", "PerronBudgetBurnsFast", "PerronBudgetBurns", "PerronDrift",
    )  # fmt: skip
    by_version = {"model": model, "version": "1", "route": "champion"}
    labels: dict[str, dict[str, str]] = {
        "PerronDown": {"job": "perron", "instance": "a"},
        **dict.fromkeys(("PerronErrors", "PerronSlow", "PerronUnlogged"), by_version),
        "PerronLogFails": {"reason": "log"},
        "PerronQueueFull": {"reason": "busy"},
        "PerronRolledBack": {"kind": model},
        "PerronDrift": {"model": model, "version": "1", "column": "x"},
    }
    alerts = {rule["alert"]: rule for rule in _alerts(models, limits)["groups"][0]["rules"]}
    ill = [
        {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"'
            + "".join(f',{key}="{value}"' for key, value in labels.get(name, {}).items())
            + f',severity="{alerts[name]["labels"]["severity"]}"}})',
            "eval_time": "479m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for name in names
        if not mild.get(name, False)
    ]
    quiet = [
        {"series": f"perron_requests_total{{{way}}}", "values": "0+600x120 72000x60"},
    ]
    tests: list[dict[str, Any]] = [
        {
            "name": "a service that is well", "interval": "1m", "input_series": series(0, 0, 600, 0),
            "promql_expr_test": [{"expr": "count(ALERTS)", "eval_time": "479m", "exp_samples": []}],
        },
        {
            "name": "a service that is ill", "interval": "1m", "input_series": series(600, 600, 0, 3),
            "promql_expr_test": [
                *ill,
                {"expr": "model:perron_errors:share5m", "eval_time": "479m",
                 "exp_samples": [{"labels": f"model:perron_errors:share5m{{{way}}}", "value": 0.5}]},
                {"expr": "round(service:perron_bad:share1h * 3, 1e-6)", "eval_time": "479m", "exp_samples": [{"labels": "{}", "value": 2}]},
            ],
        },
    ]  # fmt: skip
    if models:
        tests.append(
            {
                "name": "a service that nobody asks any more", "interval": "1m", "input_series": quiet,
                "alert_rule_test": [
                    {"alertname": "PerronNoTraffic", "eval_time": "110m", "exp_alerts": []},
                    {"alertname": "PerronNoTraffic", "eval_time": "170m", "exp_alerts": [
                        {"exp_labels": {"model": model, "severity": "warning"},
                         "exp_annotations": {"summary": f"{model} has had no request for half an hour."}},
                    ]},
                ],
            }
        )  # fmt: skip
    return {
        "rule_files": ["../rules/perron.yml", "../rules/perron-alerts.yml"],
        "evaluation_interval": "1m",
        "tests": tests,
    }
