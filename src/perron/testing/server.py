"""A bundle in; the address of a real server of it, in a process of its own, out.

It logs to a folder that goes with it, so that what tests ask is no part of the project's predictions; and it ends with
whoever started it, however that ends: it reads its standard input until the other end is closed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perron.bundle import Bundle, load
from perron.errors import PerronError
from perron.serve.alone import Alone
from perron.serve.app import Settings
from perron.serve.http import Address, free_port, serve

__all__ = ["main", "serving"]

STOP_S = 15.0
TRIES = 3  # a free port may be taken by another process before the server has it


@contextmanager
def serving(bundle: Bundle, version: int) -> Iterator[str]:
    """The URL of a server of the bundle, which replies as that version; stopped when the context is left.

    Raises:
        PerronError: it doesn't start; shows what it said.
    """
    with tempfile.TemporaryDirectory(prefix="perron-testing-", ignore_cleanup_errors=True) as home:
        said = ""
        for _ in range(TRIES):
            words = [sys.executable, "-m", "perron.testing.server", str(bundle.path), bundle.digest, str(version), home]
            with (
                open(Path(home, "errors"), "w+b") as errors,
                subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as server,
            ):
                assert server.stdin is not None and server.stdout is not None
                try:
                    url = server.stdout.readline().decode().strip()
                    if url:
                        yield url
                        return
                finally:
                    server.stdin.close()
                    try:
                        server.wait(STOP_S)
                    except subprocess.TimeoutExpired:
                        server.kill()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()
        raise PerronError(f"The server of {bundle.path} didn't start: {said or 'it said nothing'}")


def main(words: list[str]) -> None:
    """Serves a bundle until standard input ends. The words: its folder, its digest, the version, a folder for the log."""
    folder, digest, version, home = words
    bundle, port = load(folder, digest), free_port()
    log = Path(home, f"predictions-{os.getpid()}")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    address = Address("127.0.0.1", port)
    serve(
        Settings(log), Alone(bundle.name, bundle.path, bundle.digest, log, int(version)), address,
        announce=lambda service: print(address.url, flush=True),
    )  # fmt: skip


def _end_with_parent() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PerronError as error:
        sys.exit(str(error))
