"""A listening socket that was given: nothing more is accepted from it, whatever other threads close meanwhile."""

import os
import socket

import pytest

from perron.serve import inherited


def test_a_descriptor_that_is_closed_meanwhile_disturbs_no_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.fstat
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as other:
        copies = [os.dup(listening.fileno()) for _ in range(2)]
        request = os.dup(other.fileno())  # as a request under way has one
        seen: list[int] = []

        def look(descriptor: int) -> os.stat_result:
            found = stat(descriptor)
            if descriptor == request and not seen:
                seen.append(descriptor)
                os.close(descriptor)  # its client went, just after it was looked at
            return found

        monkeypatch.setattr(os, "fstat", look)
        before = listening.getsockname()
        inherited._accept_no_more(listening.fileno())
        assert seen == [request]
        for descriptor in copies:
            with socket.socket(fileno=descriptor) as replaced:
                assert replaced.getsockname() != before


def test_a_descriptor_that_cannot_be_replaced_at_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    replace, refused = os.dup2, []

    def refuse(one: int, other: int) -> int:
        if not refused:
            refused.append(other)
            raise OSError(16, "Device or resource busy")  # another thread opens that very number
        return replace(one, other)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        before = listening.getsockname()
        monkeypatch.setattr(os, "dup2", refuse)
        inherited._accept_no_more(listening.fileno())
        assert refused == [listening.fileno()] and listening.getsockname() != before
