"""The script that Streamlit runs: the pages, the user's own beside ours, the model that they are about, and who may do what."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

from perron.errors import PerronError
from perron.pages.dashboard import Settings, parts
from perron.pages.dashboard import data as data_page
from perron.pages.dashboard import home as home_page
from perron.pages.dashboard import live as live_page
from perron.pages.dashboard import model as model_page
from perron.pages.dashboard import outcomes as outcomes_page
from perron.pages.dashboard import predict as predict_page
from perron.pages.dashboard import runs as runs_page
from perron.pages.dashboard.facts import Facts, facts_of

__all__ = ["guarded", "main", "own_pages"]

OWN = "pages"  # the folder of a project's own pages
PAGES: dict[str, Callable[[Facts, str | None], None]] = {
    "Home": home_page.show, "Data": data_page.show, "Runs": runs_page.show, "Model": model_page.show,
    "Live": live_page.show, "Predict": predict_page.show, "Outcomes": outcomes_page.show,
}  # fmt: skip


def guarded(page: Callable[[Facts, str | None], None], facts: Facts, model: str | None) -> None:
    """A page; a mistake that it meets is shown as one line."""
    parts.style()
    try:
        page(facts, model)
    except PerronError as error:
        st.error(parts.plain(error))


def own_pages(folder: Path) -> list[Path]:
    """The user's own pages, by name; what begins with _ or . isn't one."""
    return sorted(path for path in (folder / OWN).glob("*.py") if path.name[0] not in "_.")


def main() -> None:
    """Shows the page that the reader chose."""
    settings = Settings.of(sys.argv[1:])
    facts = facts_of(settings)
    st.set_page_config(page_title=f"{settings.folder.name} · Perron", layout="wide")
    names = facts.models()
    model = names[0] if names else None
    chosen: dict[str, str | None] = {"model": model}

    def body(page: Callable[[Facts, str | None], None]) -> None:
        guarded(page, facts, chosen["model"])

    ours = [
        st.Page(partial(body, page), title=name, url_path=name.lower(), default=name == "Home")
        for name, page in PAGES.items()
    ]
    taken = {name.lower() for name in PAGES}
    own = [
        st.Page(path, url_path=f"own-{path.stem}" if path.stem.lower() in taken else None)
        for path in own_pages(settings.folder)
    ]
    page = st.navigation({"": ours, "Your own": own} if own else ours)
    with st.sidebar:
        if len(names) > 1:
            chosen["model"] = st.selectbox("Model", names, key="model")
        parts.note(f"{settings.folder.name} · {settings.role}")
    parts.style()
    page.run()


if __name__ == "__main__":  # as Streamlit runs it
    main()
