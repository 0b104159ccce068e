"""A started service in; nothing out when it would answer, or why it wouldn't: its health, and one real prediction.

Asked before a server accepts anything from a socket that it shares with the version before it. The prediction is of
the bundle's own sample, goes the whole way (decoder, contract, graph, log) and is logged on the route `readiness`.
"""

from typing import TYPE_CHECKING

from perron.bundle import GraphBundle
from perron.check.request import Rejection
from perron.errors import DeploymentError, PerronError
from perron.predictions import READINESS
from perron.serve.problem import Answer, encode

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["demand_ready"]

HEALTH = "/health/ready"


async def demand_ready(service: "Service") -> None:
    """Nothing, when the service answers for every model that it should.

    A bundle without a contract answered its own sample when it was loaded, and is asked nothing more.

    Raises:
        DeploymentError: it doesn't; says what it answered.
    """
    for name, fault in service.models.faults.items():
        raise DeploymentError(f"Not ready: {name} can't be loaded: {fault}")
    health = await service.respond("GET", HEALTH, "", {}, _no_body)
    if not isinstance(health, Answer) or health.status != 200:
        raise DeploymentError(f"Not ready: {HEALTH} answers {health.status}.")
    for model in service.models.by_name.values():
        bundle = model.default.bundle
        if isinstance(bundle, GraphBundle):
            continue
        endpoint = service.models.make_endpoint(bundle, model.default.version, READINESS)
        try:
            body = encode({"rows": bundle.sample["rows"][:1]})
            rows = endpoint.decode(body)
            if isinstance(rows, Rejection):
                raise DeploymentError(f"Not ready: {model.name} refuses its own sample: {rows.detail}")
            await endpoint.answer(rows, body, endpoint.way)
        except DeploymentError:
            raise
        except PerronError as error:
            raise DeploymentError(f"Not ready: {model.name} can't answer its own sample: {error}") from error
        except Exception as error:
            raise DeploymentError(
                f"Not ready: {model.name} fails on its own sample: {type(error).__name__}: {error}".splitlines()[0]
            ) from error
        finally:
            endpoint.close()
            service.registry.forget(model.name, model.default.version, READINESS)  # it isn't anybody's traffic


async def _no_body(limit: int) -> bytes:
    return b""
