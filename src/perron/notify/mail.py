"""An event in; a mail over SMTP out, as text and as HTML."""

import html
import logging
import smtplib
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

from perron.alerts.channels import Channel, ChannelError
from perron.alerts.events import Event, one_line
from perron.notify.deadline import deadline

__all__ = ["channel", "mail_of"]

PORTS = {"starttls": 587, "tls": 465, "none": 25}
logger = logging.getLogger("perron.alerts")
COLOURS = {"raised": "#b42318", "repeated": "#b54708", "recovered": "#067647", "acted": "#175cd3", "test": "#344054"}


class _Mail:
    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self._options = options
        self._ca_file = str(folder / Path(options["ca_file"]).expanduser()) if options["ca_file"] else None

    def send(self, event: Event) -> None:
        self._send(lambda: mail_of(event, self._options["from"], self._options["to"]))

    def send_page(self, title: str, summary: str, page: str) -> None:
        """Sends a page of HTML as an attachment.

        Raises:
            ChannelError: it wasn't taken.
        """
        self._send(lambda: _page_mail(title, summary, page, self._options["from"], self._options["to"]))

    def _send(self, make: Callable[[], EmailMessage]) -> None:
        host, timeout_s = self._options["host"], self._options["timeout_s"]
        try:
            message = make()
        except (ValueError, UnicodeError) as error:
            raise ChannelError(f"an address can't be used: {error}", is_lasting=True) from None
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise ChannelError(f"{self._ca_file} can't be used as ca_file: {error}", is_lasting=True) from None
        client: smtplib.SMTP | None = None
        with deadline(timeout_s, lambda: client.sock if client is not None else None) as is_over:
            try:
                client = self._connect(context)
                self._log_in(client, context)
                refused = client.send_message(message)
            except (OSError, smtplib.SMTPException, ValueError) as error:
                if is_over.is_set() or any(
                    isinstance(one, TimeoutError) for one in (error, error.__context__)
                ):  # smtplib wraps it
                    raise ChannelError(f"{host} didn't take it within {timeout_s:g} s") from None
                raise ChannelError(f"{host} didn't take it: {_reason(error)}", is_lasting=_is_lasting(error)) from None
            finally:
                if client is not None:
                    client.close()
        if refused:  # not an error: sent again, the others would have it twice
            logger.warning("%s took a mail, but not for %s.", host, ", ".join(refused))

    def _connect(self, context: ssl.SSLContext) -> smtplib.SMTP:
        host, security = self._options["host"], self._options["security"]
        port = int(self._options["port"]) or PORTS[security]
        timeout_s = self._options["timeout_s"]
        if security == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=context)
        return smtplib.SMTP(host, port, timeout=timeout_s)

    def _log_in(self, client: smtplib.SMTP, context: ssl.SSLContext) -> None:
        if self._options["security"] == "starttls":
            client.starttls(context=context)
        if self._options["password"]:
            client.login(self._options["user"], self._options["password"])


def mail_of(event: Event, sender: str, receivers: list[str]) -> EmailMessage:
    """The mail of an event. Those of one alert are a conversation, begun by its first.

    Raises:
        ValueError: an address that can't be put into a header.
    """
    message = _begin(event.title, sender, receivers)
    domain = _domain(sender)
    message["Message-ID"] = f"<{event.id}@{domain}>"
    if event.status not in ("raised", "test"):
        message["In-Reply-To"] = message["References"] = f"<{event.alert}-1@{domain}>"
    facts = "\n".join(f"{name}: {text}" for name, text in event.facts.items())
    message.set_content(f"{event.title}\n\n{event.detail}\n\n{facts}\n")
    rows = "".join(
        f'<tr><td style="color:#667085;padding-right:1em">{html.escape(name)}</td><td>{html.escape(text)}</td></tr>'
        for name, text in event.facts.items()
    )
    message.add_alternative(
        f'<!doctype html><html lang="en"><body style="font-family:sans-serif">'
        f'<h2 style="color:{COLOURS[event.status]}">{html.escape(event.title)}</h2><p>{html.escape(event.detail)}</p>'
        f"<table>{rows}</table></body></html>\n",
        subtype="html",
    )
    return message


def _page_mail(title: str, summary: str, page: str, sender: str, receivers: list[str]) -> EmailMessage:
    message = _begin(one_line(title), sender, receivers)
    message["Message-ID"] = make_msgid(domain=_domain(sender))
    message.set_content(f"{summary}\n")
    message.add_attachment(page, subtype="html", filename="report.html")
    return message


def _begin(title: str, sender: str, receivers: list[str]) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = f"[Perron] {title}"
    message["From"] = sender
    message["To"] = ", ".join(receivers)
    message["Date"] = formatdate()
    message["Auto-Submitted"] = "auto-generated"
    return message


def _domain(sender: str) -> str:
    return sender.rpartition("@")[2].strip("> ") or "localhost"


def _reason(error: Exception) -> str:
    """What the server said, or what went wrong before it could."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the login was refused ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"it refused {', '.join(error.recipients)}"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {said}"
    return f"{type(error).__name__}: {error}"


def _is_lasting(error: Exception) -> bool:
    """Whether another try at once would fail the same: a certificate, a login, an address."""
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code >= 500
    return isinstance(error, ssl.SSLError | smtplib.SMTPNotSupportedError | smtplib.SMTPRecipientsRefused)


channel: type[Channel] = _Mail
