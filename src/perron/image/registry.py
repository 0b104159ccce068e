"""A reference in; manifests and blobs of a registry out, by the OCI distribution specification 1.1.

Nobody is logged in: a registry that wants a token gives one to anybody who asks, or the image isn't public.
"""

import hashlib
import http.client
import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.errors import NotFound, PerronError

__all__ = ["Reference", "Registry", "parse_reference"]

ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
    )
)  # fmt: skip
REFERENCE = re.compile(
    r"(?:(?P<host>localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9.-]+(?=:\d))(?P<port>:\d+)?/)?"
    r"(?P<name>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
LOCAL = re.compile(r"(localhost|127\.\d+\.\d+\.\d+)(:\d+)?")
TIMEOUT_S = 60.0
CHUNK = 1 << 20
MOST_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Reference:
    """Where an image is: the registry's host, its name there, and its tag or digest."""

    host: str
    name: str
    tag: str
    digest: str | None = None

    def __str__(self) -> str:
        return f"{self.host}/{self.name}{'@' + self.digest if self.digest else ':' + self.tag}"


def parse_reference(text: str) -> Reference:
    """The reference that a text is; without a host it is Docker Hub's, as everywhere.

    Raises:
        NotFound: it is none.
    """
    match = REFERENCE.fullmatch(text.removeprefix("docker://"))
    if match is None:
        raise NotFound(
            f"There is no base {text[:200]}: it is no file or folder here, and no registry's reference (HOST/NAME:TAG)."
        )
    host, name = (match["host"] or "docker.io") + (match["port"] or ""), match["name"]
    if host == "docker.io" and "/" not in name:
        name = f"library/{name}"
    return Reference(host, name, match["tag"] or "latest", match["digest"])


class Registry:
    """One image's repository. Everything that comes is held to its digest."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        host = "registry-1.docker.io" if reference.host == "docker.io" else reference.host
        # Only a registry on this machine is asked in the open, as Docker has it.
        self._root = f"{'http' if LOCAL.fullmatch(host) else 'https'}://{host}/v2/{reference.name}"
        self._token: str | None = None

    def manifest(self, digest_or_tag: str) -> bytes:
        """The manifest's bytes.

        Raises:
            NotFound: there is none.
            PerronError: the registry can't be asked, or gives other bytes.
        """
        with self._open(f"{self._root}/manifests/{digest_or_tag}", ACCEPT) as answer:
            data: bytes = answer.read(MOST_MANIFEST_BYTES + 1)
        if len(data) > MOST_MANIFEST_BYTES:
            raise PerronError(f"{self._reference} has a manifest of more than {MOST_MANIFEST_BYTES >> 20} MB.")
        if digest_or_tag.startswith("sha256:"):
            self._check(digest_or_tag, hashlib.sha256(data).hexdigest())
        return data

    def blob(self, digest: str) -> bytes:
        """A small blob's bytes, such as an image's configuration; raises as `manifest`."""
        with self._open(f"{self._root}/blobs/{digest}") as answer:
            data: bytes = answer.read(MOST_MANIFEST_BYTES)
        self._check(digest, hashlib.sha256(data).hexdigest())
        return data

    def download(self, digest: str, path: Path) -> None:
        """Writes a blob to a file; raises as `manifest`."""
        sha = hashlib.sha256()
        with self._open(f"{self._root}/blobs/{digest}") as answer, open(path, "wb") as file:
            try:
                while piece := answer.read(CHUNK):
                    sha.update(piece)
                    file.write(piece)
            except (OSError, http.client.HTTPException) as error:
                raise PerronError(
                    f"{self._reference}: the download of {digest} broke off ({error}); try again."
                ) from error
        self._check(digest, sha.hexdigest())

    def _check(self, digest: str, found: str) -> None:
        if digest != f"sha256:{found}":
            raise PerronError(f"{self._reference}: what the registry gave for {digest} has the digest sha256:{found}.")

    def _open(self, url: str, accept: str = "*/*") -> Any:
        """The answer to a GET; a registry that wants a token is asked for one once (Distribution: token authentication)."""
        for is_second in (False, True):
            headers = {"Accept": accept, "User-Agent": "perron"}
            request = urllib.request.Request(url, headers=headers)
            if self._token is not None:
                # Not sent on to where the registry redirects: object storage refuses a second kind of authorisation.
                request.add_unredirected_header("Authorization", f"Bearer {self._token}")
            try:
                return urllib.request.urlopen(request, timeout=TIMEOUT_S)
            except urllib.error.HTTPError as error:
                with error:
                    challenge = error.headers.get("WWW-Authenticate", "")
                    if error.code == 401 and not is_second and challenge.lower().startswith("bearer "):
                        self._token = self._ask_token(challenge)
                        continue
                    raise self._refused(error.code) from error
            except (OSError, http.client.HTTPException, ssl.SSLError) as error:
                reason = getattr(error, "reason", None) or error
                raise PerronError(
                    f"The registry {self._reference.host} can't be asked for {self._reference}: {reason}."
                ) from error
        raise self._refused(401)

    def _refused(self, status: int) -> PerronError:
        if status == 404:
            return NotFound(f"The registry {self._reference.host} has no {self._reference}.")
        if status in (401, 403):
            return PerronError(
                f"The registry {self._reference.host} gives {self._reference} to nobody who isn't logged in (or has none); "
                "fetch it with your own tools and name the layout: `skopeo copy docker://… oci:FOLDER`."
            )
        return PerronError(f"The registry {self._reference.host} answered {status} to {self._reference}.")

    def _ask_token(self, challenge: str) -> str:
        facts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = facts.pop("realm", "")
        if urllib.parse.urlsplit(realm).scheme not in ("http", "https"):
            raise self._refused(401)
        query = urllib.parse.urlencode({"scope": f"repository:{self._reference.name}:pull", **facts})
        try:
            with urllib.request.urlopen(f"{realm}?{query}", timeout=TIMEOUT_S) as answer:
                given = json.loads(answer.read(MOST_MANIFEST_BYTES))
            return str(given.get("token") or given["access_token"])
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code) from error
        except (OSError, ValueError, KeyError, AttributeError, http.client.HTTPException) as error:
            raise PerronError(f"The registry {self._reference.host} gave no token: {error}.") from error
