"""What services and images are called, and which references are refused."""

import pytest

from perron.naming import image_fault, label_of, repository_fault


@pytest.mark.parametrize(
    ("model", "label"), [("House prices", "house-prices"), ("a_b--c!", "a-b-c"), ("7", "7"), ("ß", "model")]
)
def test_a_model_has_a_label(model: str, label: str) -> None:
    assert label_of(model) == label


@pytest.mark.parametrize("reference", ["a:1", "localhost:5000/a:1", "ghcr.io/me/app:v1.2", f"a/b@sha256:{'0' * 64}"])
def test_a_reference_may_be_run(reference: str) -> None:
    assert image_fault(reference) is None and repository_fault(reference) is not None


@pytest.mark.parametrize(
    "reference", ["", "A:1", "a b:1", "a:1\n", "a:1 --privileged", "a: ${{ secrets.X }}", "a", "a:latest"]
)
def test_a_reference_that_is_none_or_may_be_another_image_tomorrow_is_told(reference: str) -> None:
    assert image_fault(reference) is not None


def test_a_repository_has_no_tag() -> None:
    assert repository_fault("ghcr.io/me/app") is None and repository_fault("localhost:5000/app") is None
    assert repository_fault("ghcr.io/me/app ; id") is not None
