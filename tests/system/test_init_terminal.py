"""`perron init` on a real terminal: it asks, explains what is wrong and asks again, and leaves nothing when it is stopped."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import perron
from tests.unit.test_proposal import write_csv

LIMIT_S = 60.0


class Terminal:
    """A command on a pseudo-terminal: what it says is waited for, what is typed is sent."""

    def __init__(self, words: Sequence[str], cwd: Path) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "perron", *words], cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env={**os.environ, "TERM": "dumb"}, preexec_fn=_take_terminal,  # noqa: PLW1509  # no threads here yet
        )  # fmt: skip
        os.close(slave)
        self.said = ""
        self._read_to = 0

    def wait_for(self, words: str) -> None:
        """Returns once it has said this, after what was waited for before."""
        until = time.monotonic() + LIMIT_S
        while (found := self.said.find(words, self._read_to)) < 0:
            left = until - time.monotonic()
            assert left > 0 and self._read(left), f"waited for {words!r}; it said:\n{self.said}"
        self._read_to = found + len(words)

    def answer(self, question: str, text: str) -> None:
        self.wait_for(question)
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Its exit code, once it has ended and all that it said was read."""
        until = time.monotonic() + LIMIT_S
        while self._read(max(0.0, until - time.monotonic())):
            pass
        code = self.process.wait(LIMIT_S)
        os.close(self._master)
        return code

    def _read(self, limit_s: float) -> bool:
        """Whether something more was said."""
        if not select.select([self._master], [], [], limit_s)[0]:
            self.process.kill()
            return False
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the other end was closed
            return False
        self.said += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


def _take_terminal() -> None:
    """Makes the standard input the terminal that signals come from: Ctrl-C is one."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    n = 120
    write_csv(
        tmp_path / "House Prices.csv",
        {"size": [i * 1.5 for i in range(n)], "rooms": [1 + i % 4 for i in range(n)], "price": [i * 2.5 for i in range(n)]},
    )  # fmt: skip
    return tmp_path


def test_it_asks_for_everything_and_takes_the_defaults(folder: Path) -> None:
    terminal = Terminal(["init"], folder)
    terminal.answer("Table (a file, a folder or a URL): ", "House Prices.csv\n")
    terminal.answer("Column to predict (its name or number) [price]: ", "\n")
    terminal.answer("Name of the system and its folder [house-prices]: ", "\n")
    terminal.answer("CI (github, none) [github]: ", "\n")
    terminal.answer("Branches (git-flow, trunk) [git-flow]: ", "\n")
    terminal.answer("Licence (apache-2.0, mit, proprietary, none) [none]: ", "\n")
    terminal.wait_for("HousePrices, inferred from 120 rows; regression:")
    terminal.wait_for("rooms: one of 1, 2, 3, 4  (4 different whole numbers: codes)")
    terminal.wait_for("price: float, target")
    terminal.answer("Write it? (yes, no) [yes]: ", "\n")
    assert terminal.end() == 0, terminal.said
    assert "house-prices/ predicts price from 2 fields" in terminal.said
    assert (folder / "house-prices" / "data" / "House Prices.csv").is_file()
    assert perron("sync", "--check", cwd=folder / "house-prices").returncode == 0


def test_it_explains_wrong_answers_and_asks_again(folder: Path) -> None:
    (folder / "taken").mkdir()
    (folder / "taken" / "mine").write_text("mine")
    terminal = Terminal(["init", "--ci", "none"], folder)
    terminal.answer("Table (a file, a folder or a URL): ", "none.csv\n")
    terminal.wait_for("There is no file none.csv")
    terminal.answer("Table (a file, a folder or a URL): ", "\n")
    terminal.answer("Table (a file, a folder or a URL): ", "House Prices.csv\n")
    terminal.wait_for(" 1  size")
    terminal.answer("[price]: ", "prize\n")
    terminal.wait_for("There is no column 'prize'; did you mean 'price'?")
    terminal.answer("[price]: ", "7\n")
    terminal.wait_for("There is no column '7'")
    terminal.answer("[price]: ", "2\n")
    terminal.answer("[house-prices]: ", "House Prices\n")
    terminal.wait_for("can't be a system's")
    terminal.answer("[house-prices]: ", "taken\n")
    terminal.wait_for("taken exists and isn't empty")
    terminal.answer("[house-prices]: ", "rooms\n")
    terminal.answer("Branches (git-flow, trunk) [git-flow]: ", "main\n")
    terminal.wait_for("Answer one of git-flow, trunk, not 'main'.")
    terminal.answer("Branches (git-flow, trunk) [git-flow]: ", "t\n")
    terminal.answer("[none]: ", "gpl\n")
    terminal.wait_for("Answer one of apache-2.0, mit, proprietary, none, not 'gpl'.")
    terminal.answer("[none]: ", "MIT\n")
    terminal.wait_for("classification:")
    terminal.answer("Write it? (yes, no) [yes]: ", "y\n")
    assert terminal.end() == 0, terminal.said
    text = (folder / "rooms" / "pyproject.toml").read_text()
    assert re.search(r'(?m)^ci = "none"', text) and re.search(r'(?m)^branching = "trunk"', text)
    assert (folder / "rooms" / "LICENSE").read_text().startswith("MIT License")
    assert not (folder / "rooms" / ".github").exists()


def test_a_target_that_nothing_can_be_learnt_of_is_asked_for_again(folder: Path) -> None:
    write_csv(
        folder / "t.csv", {"x": [i * 1.5 for i in range(60)], "same": ["a"] * 60, "y": [i * 2.5 for i in range(60)]}
    )
    terminal = Terminal(["init", "things", "--from", "t.csv", "--bare"], folder)
    terminal.answer("[y]: ", "same\n")
    terminal.wait_for("has one value throughout; there is nothing to learn.")
    terminal.answer("Column to predict [y]: ", "\n")
    terminal.answer("Write it? (yes, no) [yes]: ", "\n")
    assert terminal.end() == 0, terminal.said
    assert sorted(path.name for path in (folder / "things").iterdir() if path.name != ".git") == [
        ".gitignore", "README.md", "data", "pyproject.toml", "system.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "code", "said"), [("\x03", 130, "perron: Interrupted; nothing was written."), ("\x04", 1, "perron: The input ended; nothing was written.")]
)  # fmt: skip
@pytest.mark.parametrize("late", [False, True])
def test_ctrl_c_and_ctrl_d_leave_nothing(folder: Path, key: str, code: int, said: str, late: bool) -> None:
    terminal = Terminal(["init", "--from", "House Prices.csv"], folder)
    if late:
        for question in ("[price]: ", "[house-prices]: ", "[github]: ", "[git-flow]: ", "[none]: "):
            terminal.answer(question, "\n")
        terminal.answer("Write it? (yes, no) [yes]: ", key)
    else:
        terminal.answer("[price]: ", key)
    assert terminal.end() == code, terminal.said
    assert terminal.said.rstrip().endswith(said) and "Traceback" not in terminal.said
    assert [path.name for path in folder.iterdir()] == ["House Prices.csv"]


def test_a_ctrl_c_right_after_the_question_is_noticed(folder: Path) -> None:
    for _ in range(8):  # between the prompt and the reading, one in four was slept through
        terminal = Terminal(["init", "--from", "House Prices.csv"], folder)
        terminal.answer("[price]: ", "\x03")
        assert terminal.end() == 130, terminal.said


def test_no_is_an_answer(folder: Path) -> None:
    terminal = Terminal(["init", "--from", "House Prices.csv", "--target", "price", "--bare"], folder)
    terminal.answer("[house-prices]: ", "\n")
    terminal.answer("Write it? (yes, no) [yes]: ", "no\n")
    assert terminal.end() == 1 and "Nothing was written" in terminal.said
    assert [path.name for path in folder.iterdir()] == ["House Prices.csv"]


def test_with_every_flag_nothing_is_asked(folder: Path) -> None:
    terminal = Terminal(["init", "houses", "--from", "House Prices.csv", "--target", "price"], folder)
    assert terminal.end() == 0 and "[" not in terminal.said, terminal.said
    assert (folder / "houses" / "Makefile").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give a name: perron init NAME"),
        (["houses"], "Give the table: --from SOURCE"),
        (["houses", "--from", "House Prices.csv"], "Give the column to predict: --target COLUMN"),
        (["houses", "--from", "House Prices.csv", "--target", "price", "--ci", "gitlab"], "--ci is 'gitlab'; did you mean 'github'?"),
        (["houses", "--from", "House Prices.csv", "--target", "price", "--branching", "x"], "--branching is 'x'; known: git-flow, trunk"),
        (["houses", "--from", "House Prices.csv", "--target", "price", "--licence", "gpl"], "--licence is 'gpl'; known:"),
        (["houses", "--from", "House Prices.csv", "--target", "price", "--task", "ranking"], "--task is 'ranking'; known: classification, regression"),
        (["houses", "--from", "House Prices.csv", "--target", "price", "--task", "classification"], "a classification needs classes"),
        (["houses", "--from", "House Prices.csv", "--target", "price", "--bare", "--licence", "mit"], "--licence is of a whole project"),
        (["houses", "--from", "House Prices.csv", "--target", "price", "--bare", "--branching", "git-flow"], "A bare project has one branch"),
    ],
)  # fmt: skip
def test_without_a_terminal_what_is_missing_or_wrong_is_one_line(folder: Path, words: list[str], said: str) -> None:
    done = perron("init", *words, cwd=folder, check=False)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert [path.name for path in folder.iterdir()] == ["House Prices.csv"]


def test_without_git_it_begins_and_says_how_to_have_a_repository(folder: Path) -> None:
    words = ("init", "houses", "--from", "House Prices.csv", "--target", "price")
    done = perron(*words, cwd=folder, PATH=str(folder / "nothing"))
    assert "git isn't installed, so there is no repository; install it, then: git init" in done.stdout
    assert (folder / "houses" / "Makefile").is_file() and not (folder / "houses" / ".git").exists()


def test_a_commit_that_git_refuses_is_told_in_its_words(folder: Path) -> None:
    config = folder / "gitconfig"
    config.write_text("[commit]\n\tgpgsign = true\n[gpg]\n\tprogram = false\n")
    words = ("init", "houses", "--from", "House Prices.csv", "--target", "price")
    done = perron(*words, cwd=folder, GIT_CONFIG_GLOBAL=str(config))
    assert "git made no first commit (error: gpg failed to sign the data)" in done.stdout
    assert "git add -A && git commit" in done.stdout and (folder / "houses" / "Makefile").is_file()


def test_inside_another_repository_none_is_begun_and_a_line_says_so(folder: Path) -> None:
    subprocess.run(["git", "init", "-q", folder], check=True)
    done = perron("init", "houses", "--from", "House Prices.csv", "--target", "price", cwd=folder)
    assert "It lies in a git repository already, so none was begun; commit it there." in done.stdout
    assert not (folder / "houses" / ".git").exists()


def test_an_interrupt_while_it_writes_is_one_line(folder: Path) -> None:
    """A signal that comes at any moment: either nothing is there, or all of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "perron", "init", "houses", "--from", "House Prices.csv", "--target", "price", "--no-git"],
        cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + LIMIT_S
    while not (folder / "houses").exists() and process.poll() is None and time.monotonic() < until:
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LIMIT_S)
    assert "Traceback" not in said
    assert not (folder / "houses").exists() or (folder / "houses" / ".perron-files.json").is_file()


def test_an_interrupt_after_the_work_ends_the_process_without_a_word() -> None:
    program = "import atexit, os, sys; atexit.register(os.kill, os.getpid(), 2); from perron.cli import main; sys.argv[1:] = ['init', '--help']; main()"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "") and "Begin a project" in done.stdout
