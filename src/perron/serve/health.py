"""A server's port in; whether it answers, as an exit code out: the health check of images, which have no curl.

    python -m perron.serve.health

The port is what `perron serve` has without --port: of the environment, else 8000. A server that ends TLS itself is asked without looking at its certificate, and one that
wants a client's certificate counts as up once it says so.
"""

import http.client
import os
import ssl
import sys

__all__ = ["PORTS", "is_healthy"]

TIMEOUT_S = 2.0
PATH = "/health/ready"
PORTS = ("PERRON_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "PORT")


def is_healthy(port: int) -> bool:
    """Whether the server on this machine's port is ready."""
    try:
        return _is_ready(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S))
    except (ConnectionResetError, http.client.HTTPException):  # something listens, and speaks otherwise
        pass
    except OSError:
        return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return _is_ready(http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_S, context=context))
    except ssl.SSLError as error:
        return "CERTIFICATE_REQUIRED" in str(error).upper().replace(" ", "_")
    except (OSError, http.client.HTTPException):
        return False


def _is_ready(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", PATH)
        return connection.getresponse().status == 200
    finally:
        connection.close()


if __name__ == "__main__":
    given = next((os.environ[name] for name in PORTS if os.environ.get(name)), "8000")
    sys.exit(0 if given.isdigit() and is_healthy(int(given)) else 1)
