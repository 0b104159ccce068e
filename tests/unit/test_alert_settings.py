"""alerts.toml: derived, written, read, and every mistake in it named."""

from pathlib import Path
from typing import Annotated

import pytest

import perron as pn
from perron.alerts.channels import ChannelSettings, missing_names
from perron.alerts.events import KINDS
from perron.alerts.settings import (
    Settings,
    alerts_file,
    default_settings,
    find_mistakes,
    parse_settings,
    read_settings,
)  # fmt: skip
from perron.errors import DeclarationError


class House(pn.Contract):
    rooms: float
    value: Annotated[float, pn.Target]


def system(*gates: object) -> pn.System:
    return pn.System("houses", House, source="houses.csv", gates=gates or None)  # type: ignore[arg-type]


def test_the_gates_numbers_become_rules_before_the_others() -> None:
    made = default_settings(
        system(pn.gate("rmse", at_most=60_000), pn.gate("r2", at_least=0.7), pn.gate.better_than_baseline("mae"))
    )
    first, second, *others = made.rules
    assert (first.name, first.subjects, first.at_most, first.severity) == (
        "rmse at most 60000",
        ("rmse",),
        60_000,
        "low",
    )
    assert (second.name, second.at_least) == ("r2 at least 0.7", 0.7)
    assert "predictions of value" in [rule.name for rule in others] and {rule.action for rule in made.rules} == {"tell"}
    kinds = {kind for rule in made.rules for kind in rule.kinds}
    assert "no_reference" in kinds and kinds == set(KINDS)


def test_what_is_written_reads_back_as_it_was() -> None:
    channels = {
        "terminal": ChannelSettings("terminal", "stdout"),
        "my team": ChannelSettings("my team", "mail", {"host": "mx", "from": "a@b", "to": ["c@d", "é@x"], "port": 25}),
    }
    made = Settings(
        channels, default_settings(system(pn.gate("rmse", at_most=0.1), pn.gate("r2", at_least=-1e300))).rules
    )
    assert parse_settings(alerts_file(made, system())) == (made, [])


GOOD = """
[channels.terminal]
kind = "stdout"
[[rules]]
name = "all"
"""
MAIL = 'kind = "mail"\nhost = "mx"\nfrom = "a@b"\nto = ["c@d"]\n'
BAD = [
    ("[[rules]\n", "not TOML: .*line 1"),
    ("x = 1\n" + GOOD, "x is no key here; known: channels"),
    ("chanels = {}\n" + GOOD, "chanels is no key here; did you mean 'channels'"),
    ("format = 2\n" + GOOD, "format is 2; this Perron reads 1"),
    ("channels = 1\nrules = 2\n", "channels must be tables"),
    ("", "there is no channel"),
    ('[channels.a]\nkind = "stdout"\n', "there is no rule"),
    ('[channels.a]\nkind = "slak"\nurl = "https://x"\n' + GOOD, r"channels\.a\.kind is 'slak'; did you mean 'slack'"),
    ('[channels.a]\nurl = "https://x"\n' + GOOD, r"channels\.a has no kind; known"),
    ('[channels.a]\nkind = "slack"\n' + GOOD, r"channels\.a has no url, which a slack channel needs"),
    ('[channels.a]\nkind = "slack"\nurls = "https://x"\nurl = "https://x"\n' + GOOD, r"channels\.a\.urls is no key of a slack channel; did you mean 'url'"),
    ('[channels.a]\nkind = "webhook"\nurl = "ftp://x"\n' + GOOD, r"channels\.a\.url is no address"),
    ('[channels.a]\nkind = "webhook"\nurl = "https://u:p@x"\n' + GOOD, r"channels\.a\.url holds a user"),
    ('[channels.a]\nkind = "webhook"\nurl = "https://x"\nsecret = "abc"\n' + GOOD, r"channels\.a\.secret must be a reference"),
    ('[channels.a]\nkind = "webhook"\nurl = "https://x"\ntimeout_s = -1\n' + GOOD, r"channels\.a\.timeout_s is -1; give a number above 0"),
    ("[channels.a]\n" + MAIL + 'password = "hunter2"\nuser = "u"\n' + GOOD, r"channels\.a\.password must be a reference"),
    ("[channels.a]\n" + MAIL + 'password = "${P}"\n' + GOOD, "only one of user and password"),
    ("[channels.a]\n" + MAIL + 'password = "${P}"\nuser = "u"\nsecurity = "none"\n' + GOOD, "in the clear"),
    ("[channels.a]\n" + MAIL + 'security = "ssl"\n' + GOOD, r"channels\.a\.security is 'ssl'; did you mean 'tls'|known"),
    ("[channels.a]\n" + MAIL.replace('["c@d"]', "[]") + GOOD, r"channels\.a\.to is \[\]; give a list"),
    ("[channels.a]\n" + MAIL.replace("a@b", "nobody") + GOOD, r"channels\.a\.from is 'nobody'; give an address"),
    ("[channels.a]\n" + MAIL.replace("c@d", "c@d\\n") + GOOD, r"channels\.a\.to is .*; give a list"),
    ('[channels.a]\nkind = "file"\npath = " "\n' + GOOD, r"channels\.a\.path is ' '; give a text"),
    ("[channels.a]\n" + MAIL + "port = 70000\n" + GOOD, r"channels\.a\.port is 70000"),
    ('[channels]\na = 1\n' + GOOD, r"channels\.a is 1; make it a table"),
    (GOOD + 'kinds = ["drif"]\n', r"rules\[0\] \(all\): kinds has 'drif'; did you mean 'drift'"),
    (GOOD + 'channels = ["team"]\n', r"rules\[0\] \(all\): channels has 'team'; known: terminal"),
    (GOOD + 'severety = "low"\n', r"severety is no key of a rule; did you mean 'severity'"),
    (GOOD + 'severity = "hihg"\n', r"severity is 'hihg'; did you mean 'high'"),
    (GOOD + "severity = 1979-05-27\n", r"severity is datetime.date"),
    (GOOD + 'action = "rollback"\n', r"action is 'rollback'; did you mean 'roll_back'"),
    (GOOD + "looks = 0\n", r"looks is 0; give a whole number"),
    (GOOD + "looks = true\n", r"looks is True; give a whole number"),
    (GOOD + "cooldown_h = nan\n", r"cooldown_h is nan; give hours"),
    (GOOD + "at_most = inf\n", r"at_most is inf; give a number"),
    (GOOD + 'subjects = "x"\n', r"subjects is 'x'; give a list"),
    (GOOD + '[[rules]]\nname = "all"\n', r"rules\[1\] \(all\) has the name of an earlier rule"),
    (GOOD + "[[rules]]\n", r"rules\[1\] has no name"),
    ('rules = [1]\n' + GOOD.partition("[[")[0], r"rules\[0\] is 1; make it a table"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD, ids=[words[:50] for _, words in BAD])
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    with pytest.raises(DeclarationError, match=f"(?s)alerts.toml: .*{words}") as raised:
        read_settings(tmp_path, system())
    assert "\n" not in str(raised.value) and "hunter2" not in str(raised.value)
    assert len(find_mistakes(path)) == 1 or text in ("", "channels = 1\nrules = 2\n")


def test_every_mistake_is_named_at_once() -> None:
    text = GOOD.replace("stdout", "stdot") + 'looks = 0\nkind = "x"\n'
    assert len(parse_settings(text)[1]) == 3


def test_a_file_that_is_not_text_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "alerts.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(DeclarationError, match="isn't UTF-8"):
        read_settings(tmp_path, system())


def test_names_that_the_environment_lacks_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS_HAVE", "x")
    monkeypatch.delenv("ALERTS_LACK", raising=False)
    options = {"url": "https://${ALERTS_HAVE}/${ALERTS_LACK}", "to": ["${ALERTS_LACK}"]}
    assert missing_names(ChannelSettings("a", "webhook", options)) == ["ALERTS_LACK"]
