"""Two changed texts become one: by diff3's laws, as another implementation of it does, and never into what can't be read."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perron.ship.merge import has_conflict, merge_texts

LABEL = "perron 1"
LINES = st.lists(st.sampled_from("abcdefg"), max_size=9)


@st.composite
def edited(draw: Any) -> tuple[list[str], list[str], list[str]]:
    """Lines, and two edits of them."""
    base = draw(LINES)

    def edit() -> list[str]:
        made = list(base)
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(made)))
            made[place : place + draw(st.integers(0, 2))] = draw(st.lists(st.sampled_from("pqrxyz"), max_size=2))
        return made

    return base, edit(), edit()


def text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def merge(base: list[str], yours: list[str], derived: list[str]) -> tuple[str, bool]:
    return merge_texts("x", text(base), text(yours), text(derived), LABEL)


@given(edited())
def test_who_alone_changed_something_wins(three: tuple[list[str], list[str], list[str]]) -> None:
    base, yours, derived = three
    assert merge(base, yours, base) == (text(yours), True)
    assert merge(base, base, derived) == (text(derived), True)
    assert merge(base, yours, yours) == (text(yours), True)


@given(edited())
def test_a_conflict_is_one_from_both_sides_and_holds_every_line_of_both(
    three: tuple[list[str], list[str], list[str]],
) -> None:
    base, yours, derived = three
    merged, is_clean = merge(base, yours, derived)
    other, is_other_clean = merge(base, derived, yours)
    assert is_clean == is_other_clean and (not is_clean or merged == other)
    assert has_conflict(merged) is not is_clean
    added = {line for line in (*yours, *derived) if line not in base}
    assert added <= set(merged.splitlines())


@given(edited())
@settings(max_examples=200)
def test_it_merges_as_merge3_does(three: tuple[list[str], list[str], list[str]]) -> None:
    merge3 = pytest.importorskip("merge3", reason="merge3, the other implementation, isn't installed")
    theirs = merge3.Merge3(*([f"{line}\n" for line in lines] for lines in three))
    is_clean = not any(group[0] == "conflict" for group in theirs.merge_groups())
    merged, is_ours_clean = merge(*three)
    assert is_ours_clean == is_clean
    if is_clean:
        assert merged == "".join(theirs.merge_lines())


def test_a_conflict_stands_between_markers_without_the_lines_that_agree() -> None:
    merged, is_clean = merge(["a", "b", "c"], ["a", "new", "mine", "c"], ["a", "new", "theirs", "c"])
    assert not is_clean
    assert merged == "a\nnew\n<<<<<<< yours\nmine\n=======\ntheirs\n>>>>>>> perron 1\nc\n"


def test_a_last_line_without_an_end_is_not_glued_to_a_marker() -> None:
    merged, is_clean = merge_texts("x", "a", "b", "c", LABEL)
    assert (merged, is_clean) == ("<<<<<<< yours\nb\n=======\nc\n>>>>>>> perron 1\n", False)


def test_changes_that_read_alone_and_not_together_are_a_conflict() -> None:
    base = "[a]\nx = 1\n\n[b]\ny = 2\n\n[c]\nz = 3\n"
    yours, derived = base.replace("x = 1", "x = 1\nnew = 1"), base.replace("y = 2", "y = 3")
    assert merge_texts("x.toml", base, yours, derived, LABEL)[1]
    twice = base.replace("z = 3", "z = 3\n\n[a.new]\nq = 1")
    merged, is_clean = merge_texts("x.toml", base, yours, twice, LABEL)
    assert not is_clean and has_conflict(merged) and "new = 1" in merged and "[a.new]" in merged
    assert merge_texts("x.txt", base, yours, twice, LABEL)[1]


def test_markers_of_git_itself_are_no_conflict_of_ours() -> None:
    assert not has_conflict("<<<<<<< HEAD\na\n=======\nb\n>>>>>>> develop\n")
