"""`python -m perron.pages.dashboard FOLDER SERVER ROLE OPTION…`: Streamlit, with everything imported before the first reader comes."""

import sys
from pathlib import Path

from streamlit.web import cli

from perron.pages.dashboard import Settings, data, home, live, model, outcomes, predict, runs
from perron.pages.dashboard.facts import facts_of

__all__ = ["main"]

PAGES = (data, home, live, model, outcomes, predict, runs)  # which app.py shows
FIRST = 3  # words that are the settings; the rest is Streamlit's


def main() -> None:
    """Runs Streamlit until it is stopped."""
    words, options = sys.argv[1 : 1 + FIRST], sys.argv[1 + FIRST :]
    facts_of(Settings.of(words)).begin()
    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("app.py")), *options, "--", *words]
    cli.main(prog_name="streamlit")


if __name__ == "__main__":
    main()
