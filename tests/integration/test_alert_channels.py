"""Alerts told over real sockets: web hooks, Slack's shape, mail; receivers that hang, refuse, fail; and nothing lost."""

import json
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from perron.alerts import Alerts, Rule, Settings, sample_event
from perron.alerts.channels import ChannelError, ChannelSettings, send, send_page
from perron.alerts.events import Event
from perron.errors import DeclarationError
from perron.webhooks import verify
from tests.conftest import need, perron
from tests.unit.test_alerts import Found

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
EVENT = replace(
    sample_event("houses", NOON), status="raised", severity="high", subject="<!channel> & co", detail="a < b"
)


class Receiver(ThreadingHTTPServer):
    """A server that answers each POST with the next status (the last for ever), and keeps what came."""

    daemon_threads = True

    def __init__(self, *statuses: int | Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.statuses, self.came = list(statuses), []  # type: ignore[var-annotated]
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.came.append((self.path, dict(self.headers), body))
                status = server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0]
                if callable(status):
                    status(self)
                else:
                    self.send_response(status)
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/secret-path"


@contextmanager
def receiver(*statuses: Any) -> Iterator[Receiver]:
    with Receiver(*statuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def webhook(url: str, **options: Any) -> ChannelSettings:
    return ChannelSettings("hook", "webhook", {"url": url, **options})


# ------------------------------------------------------------------ web hooks


def test_a_web_hook_gets_the_event_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS_SECRET", "s3cret")
    with receiver(204) as server:
        send(webhook(server.url, secret="${ALERTS_SECRET}"), EVENT, tmp_path)
    ((path, headers, body),) = server.came
    assert path == "/secret-path" and headers["Content-Type"] == "application/json"
    assert headers["X-Perron-Delivery"] == EVENT.id
    assert verify(b"s3cret", body, headers["X-Perron-Signature"])
    found = json.loads(body)
    assert found["title"] == EVENT.title and found["status"] == "raised" and found["subject"] == EVENT.subject


def test_every_address_of_a_name_is_tried(tmp_path: Path) -> None:
    with receiver(200) as server:  # listens on 127.0.0.1 alone; localhost is ::1 too, and often first
        send(webhook(server.url.replace("127.0.0.1", "localhost")), EVENT, tmp_path)
    assert len(server.came) == 1


def test_a_web_hook_without_a_secret_is_not_signed(tmp_path: Path) -> None:
    with receiver(200) as server:
        send(webhook(server.url), EVENT, tmp_path)
    assert "X-Perron-Signature" not in server.came[0][1]


def test_slack_gets_text_and_blocks_in_which_nothing_calls_the_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver(200) as server:
        monkeypatch.setenv("SLACK_URL", server.url)
        send(ChannelSettings("team", "slack", {"url": "${SLACK_URL}"}), replace(EVENT, detail="x" * 9000), tmp_path)
    message = json.loads(server.came[0][2])
    assert "<!channel>" not in message["text"] and "&lt;!channel&gt; &amp; co" in message["text"]
    header, section, context = message["blocks"]
    assert header["text"]["type"] == "plain_text" and len(header["text"]["text"]) <= 150
    assert len(section["text"]["text"]) <= 3000 and context["type"] == "context"


def hang(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.settimeout(20)
    handler.rfile.read(1)  # until the other side has gone


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte at a time, so that no single wait is long."""
    gone = threading.Event()
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 400:
        try:
            handler.wfile.write(bytes([byte]))
        except OSError:
            return
        gone.wait(0.05)


@pytest.mark.parametrize(
    ("answer", "words", "is_lasting"),
    [
        (500, "127.0.0.1 answered 500", False),
        (429, "answered 429", False),
        (404, "answered 404", True),
        (302, "answered 302", True),
        (hang, "no answer within 0.3 s", False),
        (drip, "no answer within 0.3 s", False),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "BadStatusLine", False),
    ],
    ids=["500", "429", "404", "redirect", "hangs", "drips", "nonsense"],
)
def test_a_receiver_that_does_not_take_it_is_named_by_host_alone(
    tmp_path: Path, answer: Any, words: str, is_lasting: bool
) -> None:
    begun, is_late = time.monotonic(), "within" in words
    with receiver(answer) as server, pytest.raises(ChannelError, match=words) as raised:
        send(webhook(server.url, timeout_s=0.3 if is_late else 10), EVENT, tmp_path)
    assert "secret-path" not in str(raised.value) and raised.value.is_lasting is is_lasting
    assert time.monotonic() - begun < 15


def test_a_refused_connection_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ChannelError, match="can't be reached: .*refused"):
        send(webhook(f"http://127.0.0.1:{port}/x"), EVENT, tmp_path)


def test_a_name_that_the_environment_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALERTS_URL", raising=False)
    with pytest.raises(ChannelError, match="hook: the environment variable ALERTS_URL isn't set"):
        send(webhook("${ALERTS_URL}"), EVENT, tmp_path)
    monkeypatch.setenv("ALERTS_URL", "no url with s3cret")
    with pytest.raises(ChannelError, match="no address of a web hook") as raised:
        send(webhook("${ALERTS_URL}"), EVENT, tmp_path)
    assert "s3cret" not in str(raised.value)


# ------------------------------------------------------------------ telling


def watch(folder: Path, *channels: ChannelSettings, pauses_s: tuple[float, ...] = (0.01, 0.01)) -> Alerts:
    settings = Settings({one.name: one for one in channels}, (Rule("all"),))
    return Alerts(folder / ".perron", settings, pauses_s=pauses_s)


def log_of(folder: Path) -> list[str]:
    return [json.loads(line)["subject"] for line in (folder / "told.jsonl").read_text().splitlines()]


LOG = ChannelSettings("log", "file", {"path": "told.jsonl"})


def test_a_failing_receiver_is_tried_again_a_few_times_in_order(tmp_path: Path) -> None:
    with receiver(500, 503, 200) as server:
        alerts = watch(tmp_path, webhook(server.url))
        alerts.judge([Found(subject="a"), Found(subject="b")], NOON)
        assert [one.error for one in alerts.tell(NOON)] == [None, None]
    assert [json.loads(body)["subject"] for _, _, body in server.came] == ["a", "a", "a", "b"]
    assert len({headers["X-Perron-Delivery"] for _, headers, _ in server.came}) == 2
    assert alerts.untold() == [] and alerts.tell(NOON) == []


def test_what_a_receiver_did_not_take_waits_for_the_next_look_and_delays_nobody(tmp_path: Path) -> None:
    release = threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        release.wait(20)

    with receiver(wait) as server:
        alerts = watch(tmp_path, webhook(server.url, timeout_s=10), LOG, pauses_s=())
        alerts.judge([Found(subject="a"), Found(subject="b")], NOON)
        telling = threading.Thread(target=alerts.tell, args=(NOON,))
        telling.start()
        while not ((tmp_path / "told.jsonl").exists() and log_of(tmp_path) == ["a", "b"]):
            assert telling.is_alive(), "the log was told only after the web hook's time was over"
            release.wait(0.01)
        telling.join()
        release.set()
        assert [one.event.subject for one in alerts.untold()] == ["a", "b"]
        server.statuses[:] = [200]
        server.came.clear()
        assert [one.error for one in alerts.tell(NOON)] == [None, None]
        assert [json.loads(body)["subject"] for _, _, body in server.came] == ["a", "b"]
    assert log_of(tmp_path) == ["a", "b"]


def test_what_no_telling_brings_is_given_up_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with receiver(500) as server:
        alerts = watch(tmp_path, webhook(server.url), pauses_s=())
        alerts.judge([Found()], NOON)
        with caplog.at_level(logging.WARNING):
            assert all(alerts.tell(NOON) for _ in range(30))
            assert alerts.untold() and "given up" not in caplog.text
            alerts.tell(NOON + timedelta(days=1))
    assert "given up" in caplog.text and "answered 500" in caplog.text
    assert alerts.untold() == []


def test_events_of_a_channel_that_is_no_more_are_given_up(tmp_path: Path) -> None:
    watch(tmp_path, LOG, webhook("http://127.0.0.1:1/x")).judge([Found()], NOON)
    alerts = watch(tmp_path, LOG)
    assert {one.channel: one.error for one in alerts.tell(NOON)} == {
        "log": None,
        "hook": "hook: there is no such channel any more",
    }
    assert alerts.untold() == []


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    with pytest.raises(ChannelError, match="log: .*there/told.jsonl can't be written"):
        send(ChannelSettings("log", "file", {"path": "there/told.jsonl"}), EVENT, tmp_path)


def test_standard_output_gets_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    send(ChannelSettings("terminal", "stdout"), EVENT, tmp_path)
    assert (
        capsys.readouterr().out
        == "2026-11-24T12:00:00.000Z  raised: drift of <!channel> & co in houses version 0 (high): a < b\n"
    )


# ------------------------------------------------------------------ mail


class Mailbox:
    """Keeps what comes."""

    def __init__(self) -> None:
        self.mails: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 taken"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def log_in(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    is_right = data.login == b"perron" and data.password == b"pa ss"
    return AuthResult(success=is_right, handled=is_right)


@contextmanager
def mail_server(box: Mailbox, certificate: Path | None = None, **options: Any) -> Iterator[int]:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, tls_context=context, ready_timeout=30, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def mail(port: int, **options: Any) -> ChannelSettings:
    known = {
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "from": "perron@example.com",
        "to": ["a@example.com", "b@example.com"],
    }
    return ChannelSettings("mail", "mail", {**known, **options})


def test_a_mail_is_text_and_html_to_everyone(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        send(mail(port), EVENT, tmp_path)
    ((receivers, message),) = box.mails
    assert receivers == ["a@example.com", "b@example.com"] and message["Subject"] == f"[Perron] {EVENT.title}"
    text, html = message.get_body(("plain",)).get_content(), message.get_body(("html",)).get_content()
    assert "a < b" in text and "a &lt; b" in html and "<!channel>" not in html


def test_a_page_is_mailed_as_an_attachment_and_by_mail_alone(tmp_path: Path) -> None:
    box = Mailbox()
    page = "<!doctype html><p>é " + "x" * 2000
    with mail_server(box) as port:
        send_page(mail(port), "houses\nlast week", "Nothing drifted.", page, tmp_path)
    ((_, message),) = box.mails
    (attachment,) = message.iter_attachments()
    assert message["Subject"] == "[Perron] houses last week" and attachment.get_content_type() == "text/html"
    assert attachment.get_content().rstrip() == page and attachment.get_filename() == "report.html"
    assert "Nothing drifted." in message.get_body(("plain",)).get_content()
    with pytest.raises(DeclarationError, match="log is a file channel; a page goes by"):
        send_page(LOG, "t", "s", page, tmp_path)


def test_the_monitor_mails_its_page_by_a_channel(housing_project: Path, tmp_path: Path) -> None:
    project = shutil.copytree(housing_project, tmp_path / "project", symlinks=True)
    box = Mailbox()
    with mail_server(box) as port:
        (project / "alerts.toml").write_text(
            f'[channels.team]\nkind = "mail"\nhost = "127.0.0.1"\nport = {port}\nsecurity = "none"\n'
            'from = "perron@example.com"\nto = ["a@example.com"]\n\n[channels.log]\nkind = "file"\npath = "a.jsonl"\n\n[[rules]]\nname = "everything"\nseverity = "high"\n'
        )
        said = perron("monitor", "--mail", "team", "--no-alert", cwd=project).stdout
    assert "team took the page." in said
    ((_, message),) = box.mails
    (attachment,) = message.iter_attachments()
    assert message["Subject"] == "[Perron] house-prices version 1: nothing found"
    assert "<!doctype html>" in attachment.get_content().lower() and "house-prices" in attachment.get_content()
    for words, says in (
        (["--mail", "log"], "log is a file channel"),
        (["--mail", "tem"], "There is no channel 'tem'"),
        (["--mail", "team", "--watch", "1"], "--mail sends one page"),
    ):
        done = perron("monitor", *words, "--no-alert", cwd=project, check=False)
        assert done.returncode == 1 and says in done.stderr


def test_mails_of_one_alert_are_a_conversation(tmp_path: Path) -> None:
    box = Mailbox()
    with mail_server(box) as port:
        alerts = watch(tmp_path, mail(port))
        (first,) = alerts.judge([Found()], NOON)
        for _ in range(3):
            alerts.judge([], NOON)
        alerts.tell(NOON)
    (_, raised), (_, recovered) = box.mails
    assert recovered["In-Reply-To"] == raised["Message-ID"] == f"<{first.id}@example.com>"


def test_a_login_over_starttls_checks_the_certificate(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "pa ss")
    box = Mailbox()
    with mail_server(box, certificate, authenticator=log_in, auth_required=True, require_starttls=True) as port:
        options = {"security": "starttls", "user": "perron", "password": "${SMTP_PASSWORD}"}
        with pytest.raises(ChannelError, match="CERTIFICATE_VERIFY_FAILED"):
            send(mail(port, **options), EVENT, tmp_path)
        send(mail(port, **options, ca_file=str(certificate / "cert.pem")), EVENT, tmp_path)
    assert len(box.mails) == 1


def test_a_refused_login_is_said_without_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "wr0ng")
    with mail_server(Mailbox(), authenticator=log_in, auth_require_tls=False) as port:
        alerts = watch(tmp_path, mail(port, user="perron", password="${SMTP_PASSWORD}"))
        alerts.judge([Found()], NOON)
        (sent,) = alerts.tell(NOON)
    assert sent.error == "mail: 127.0.0.1 didn't take it: the login was refused (535)"
    assert "wr0ng" not in "".join(path.read_text() for path in (tmp_path / ".perron").iterdir())


def test_a_mail_server_that_hangs_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ChannelError, match="within 0.3 s"):
        send(mail(silent.getsockname()[1], timeout_s=0.3), EVENT, tmp_path)


def test_a_hang_is_told_alike_when_the_sockets_own_clock_ends_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def never(*_: Any) -> Iterator[threading.Event]:
        yield threading.Event()

    monkeypatch.setattr("perron.notify.mail.deadline", never)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ChannelError, match="within 0.3 s"):
        send(mail(silent.getsockname()[1], timeout_s=0.3), EVENT, tmp_path)


def test_a_mail_server_without_starttls_gets_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_PASSWORD", "pa ss")
    with mail_server(Mailbox()) as port, pytest.raises(ChannelError, match="STARTTLS extension not supported"):
        send(mail(port, security="starttls", user="perron", password="${SMTP_PASSWORD}"), EVENT, tmp_path)


class Choosy(Mailbox):
    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address.startswith("b@"):
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 ok"


def test_a_receiver_that_the_mail_server_does_not_know_is_named_and_nobody_gets_it_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Choosy()
    with mail_server(box) as port:
        alerts = watch(tmp_path, mail(port))
        alerts.judge([Found()], NOON)
        with caplog.at_level(logging.WARNING):
            assert [one.error for one in alerts.tell(NOON)] == [None]
        assert "not for b@example.com" in caplog.text
        assert alerts.tell(NOON) == [] and [receivers for receivers, _ in box.mails] == [["a@example.com"]]
        with pytest.raises(ChannelError, match="it refused b@example.com"):
            send(mail(port, to=["b@example.com"]), EVENT, tmp_path)


def test_an_event_that_a_receiver_finds_wrong_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with receiver(400, 200) as server:
        alerts = watch(tmp_path, webhook(server.url))
        alerts.judge([Found(subject="a"), Found(subject="b"), Found(subject="c")], NOON)
        assert [one.error is None for one in alerts.tell(NOON)] == [False, True, True]
    with receiver(403) as server:
        alerts = watch(tmp_path, webhook(server.url))
        alerts.judge([Found(subject="d"), Found(subject="e"), Found(subject="f")], NOON)
        assert len(alerts.tell(NOON)) == len(server.came) == 2  # no login is tried again and again


def test_an_event_can_be_made_from_what_is_sent() -> None:
    assert Event(**EVENT.to_json()) == EVENT
