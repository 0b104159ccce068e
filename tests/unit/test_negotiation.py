"""Accept and If-None-Match, as RFC 9110 has them."""

import pytest

from perron.serve.negotiation import choose, document_headers, has_already

OFFERED = ("application/json", "text/html; charset=utf-8", "text/markdown; charset=utf-8")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, 0), ("", 0), ("*/*", 0), ("nonsense", 0), ("text/html", 1), ("TEXT/HTML", 1), ("text/*", 1),
        ("text/*;q=0.5, text/markdown", 2), ("text/html;q=0.1, application/json;q=0.2", 0), ("*/*, application/json;q=0", 1),
        ("text/html;q=0, text/*", 2), ("text/html;level=1;q=0.3, */*;q=0.2", 1), ("text/html;q=nonsense", 1), ("image/png, */*;q=0.1", 0),
        ("application/json, text/plain, */*", 0), (", ,text/markdown,", 2),
        ("image/png", None), ("text/html;q=0", None), ("*/*;q=0", None), ("application/*+json", None),
    ],
)  # fmt: skip
def test_the_type_that_is_wanted_most_is_chosen(accept: str | None, chosen: int | None) -> None:
    assert choose(accept, OFFERED) == (None if chosen is None else OFFERED[chosen])


def test_a_document_is_known_by_its_tag_weak_or_strong_or_by_any() -> None:
    tag = dict(document_headers(b"one"))["etag"]
    assert tag == dict(document_headers(b"one"))["etag"] != dict(document_headers(b"two"))["etag"]
    for header in (tag, f"W/{tag}", f'"x", {tag}', "*", f'W/"a",W/{tag}'):
        assert has_already(header, tag), header
    for header in ("", '"x"', tag.strip('"'), "*, *"):
        assert not has_already(header, tag), header
