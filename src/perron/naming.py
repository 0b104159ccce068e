"""Names in; what services and images of them are called out, and what is wrong with an image's reference.

What packages an image and what deploys one must call it alike, and what is put into workflows and files must be a reference.
"""

import re

__all__ = ["image_fault", "label_of", "repository_fault"]

IMAGE = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)


def label_of(model: str) -> str:
    """The model's name as a DNS label, which services are named by, and which registries take for an image."""
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "model"


def image_fault(reference: str) -> str | None:
    """What is wrong with the reference of an image that is to be run, in words; None: nothing."""
    found = IMAGE.fullmatch(reference)
    if found is None:
        return "give a reference such as registry.example/team/house-prices:1"
    if found["digest"] is None and found["tag"] in (None, ":latest"):
        return "it names another image tomorrow; give a tag of its own, or a digest"
    return None


def repository_fault(reference: str) -> str | None:
    """What is wrong with the name of an image that versions are the tags of, in words; None: nothing."""
    found = IMAGE.fullmatch(reference)
    if found is None or found["tag"] or found["digest"]:
        return "give a repository without a tag, such as registry.example/team/house-prices"
    return None
