"""environments.toml: what holds without it, what may be said, and every mistake with its key."""

from pathlib import Path

import pytest

from perron.environments import (
    FILE,
    KEYS,
    Environment,
    environments_file,
    get_environment,
    in_order,
    is_late,
    parse_environments,
    read_environments,
)
from perron.errors import DeclarationError, NotFound


def mistakes(text: str) -> dict[str, str]:
    found, wrong = parse_environments(text)
    assert found is None
    return {one.key: one.message for one in wrong}


def test_without_a_file_there_are_four_one_after_the_other(tmp_path: Path) -> None:
    found = read_environments(tmp_path)
    assert list(found) == ["dev", "tst", "acc", "prd"]
    assert [one.after for one in found.values()] == [None, "dev", "tst", "acc"]
    assert found["prd"].clean_commit and not found["dev"].clean_commit
    assert len({one.port for one in found.values()}) == 4


def test_the_file_that_is_written_first_says_what_holds_without_it(tmp_path: Path) -> None:
    before = read_environments(tmp_path)
    (tmp_path / FILE).write_text(environments_file())
    assert read_environments(tmp_path) == before


def test_every_key_is_read() -> None:
    text = """
    [a]
    target = "local"
    port = 9000
    host = "0.0.0.0"
    workers = 2
    approvals = 1
    approvers = ["ann"]
    clean_commit = true
    memory_mb = 500
    ready_s = 5
    drain_s = 0.5
    health_s = 1
    serve = ["--cache", "10"]
    rollouts = true
    variables = { LEVEL = "info" }
    [[a.gates]]
    metric = "rmse"
    at_most = 3
    [b]
    target = "cloud-run"
    after = "a"
    project = "my-project"
    region = "europe-west4"
    replicas_min = 0
    cpu = 0.5
    schedules = [{ name = "nightly", cron = "0 3 * * *", command = ["run"] }]
    """
    found, wrong = parse_environments(text)
    assert wrong == [] and found is not None
    a, b = found["a"], found["b"]
    assert (a.port, a.host, a.workers, a.ready_s, a.serve, a.rollouts) == (
        9000,
        "0.0.0.0",
        2,
        5,
        ("--cache", "10"),
        True,
    )
    assert a.demands == ["rmse at most 3", "clean commit", "1 approval by ann"]
    assert b.demands == ["after a"] and b.service["replicas_min"] == 0 and b.service["project"] == "my-project"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[prd\n", "the file", "not TOML"),
        ("", "the file", "declares no environment"),
        ("format = 2\n[dev]", "format", "this Perron reads 1"),
        ("dev = 1", "dev", "make it a table"),
        ("[Prd]", "Prd", "lower-case letters"),
        ("[prd]\nprot = 1", "prd.prot", "did you mean 'port'?"),
        ("[prd]\nport = 0", "prd.port", "a whole number from 1 to 65535"),
        ("[prd]\nport = true", "prd.port", "a whole number"),
        ('[prd]\ntarget = "locl"', "prd.target", "did you mean 'local'?"),
        ('[prd]\ntarget = "local"\nreplicas_max = 2', "prd.replicas_max", "has no use for it; it is for cloud-run, kubernetes"),
        ('[prd]\ntarget = "local"\nsecrets = { A = "b" }', "prd.secrets", "the environment of the shell that started its supervisor"),
        ('[prd]\ntarget = "compose"\nhost = "0.0.0.0"', "prd.host", "it is for local"),
        ('[prd]\nafter = "acx"\n[acc]', "prd.after", "did you mean 'acc'?"),
        ('[prd]\nafter = "acc"\n[acc]\nafter = "prd"', "prd.after", "comes after itself"),
        ('[prd]\napprovals = 2\napprovers = ["ann"]', "prd.approvers", "fewer people than the 2"),
        ('[prd]\napprovers = ["ann"]', "prd.approvers", "set approvals, too"),
        ('[prd]\nserve = ["--port", "1"]', "prd.serve", "--port is decided by the environment"),
        ('[[prd.gates]]\nmetric = "rmsd"\nat_most = 1', "prd.gates[0].metric", "did you mean 'rmse'?"),
        ('[[prd.gates]]\nmetric = "rmse"', "prd.gates[0]", "either at_most or at_least"),
        ('[[prd.gates]]\nmetric = "rmse"\nat_most = "1"', "prd.gates[0].at_most", "give a number"),
        ('[[prd.gates]]\nmetric = "rmse"\nat_most = 1\nwhen = 2', "prd.gates[0].when", "no such key"),
        ('[prd]\ntarget = "local"\n[acc]\ntarget = "local"', "acc.port", "prd has 127.0.0.1:8000 already"),
        ('[[prd.schedules]]\nname = "a"', "prd.schedules[0]", "give name, cron and command"),
        ('[[prd.schedules]]\nname = "a"\ncron = "99 3 * * *"\ncommand = ["run"]', "prd.schedules[0].cron", "its minute is '99'"),
        *((f'[prd]\ntarget = "compose"\n{key} = 2', f"prd.{key}", "it is for cloud-run, kubernetes")
          for key in ("replicas_min", "replicas_max", "concurrency", "timeout_s")),
        *((f'[prd]\ntarget = "compose"\nfour_services = true\n{key} = {value}', f"prd.{key}", "nothing beside four_services")
          for key, value in (("grpc_port", "9000"), ("log_to", '["stdout:"]'), ("profiles", '["postgres"]'), ("image", '"a/b"'),
                             ("schedules", '[{ name = "a", cron = "0 3 * * *", command = ["run"] }]'))),
        ('[prd]\nimage = "ghcr.io/me/app: ${{ secrets.X }}"', "prd.image", "give a repository without a tag"),
        ('[prd]\nimage = "ghcr.io/me/app:1"', "prd.image", "give a repository without a tag"),
        ('[prd]\nimage = ""', "prd.image", "give a text"),
        ('[prd]\nproject_image = "ghcr.io/me/app $(id):1"', "prd.project_image", "give a reference such as"),
        ('[prd]\nproject_image = "ghcr.io/me/app"', "prd.project_image", "give a tag of its own, or a digest"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_key(text: str, key: str, words: str) -> None:
    found = mistakes(text)
    assert words in found[key]


def test_a_wrong_file_is_one_line_that_counts_the_mistakes(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[prd]\nport = 0\nworkers = 0\n")
    with pytest.raises(DeclarationError, match=r"^environments.toml: prd.port: is 0; .* \(and 1 more\)$"):
        read_environments(tmp_path)
    (tmp_path / FILE).write_bytes(b"[prd]\n\xff")
    with pytest.raises(DeclarationError, match="isn't UTF-8"):
        read_environments(tmp_path)


def test_an_environment_that_is_not_declared_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'prd'"):
        get_environment(tmp_path, "prod")


def test_environments_are_ordered_by_what_they_come_after_and_else_stay_as_they_are() -> None:
    found, _ = parse_environments('[prd]\nafter = "acc"\n[demo]\n[acc]\nafter = "dev"\n[dev]\n[try]\nafter = "dev"')
    assert found is not None
    assert [one.name for one in in_order(found.values())] == ["demo", "dev", "acc", "prd", "try"]
    assert {name: is_late(name, found) for name in found} == {
        "demo": True, "dev": False, "acc": True, "prd": True, "try": True,
    }  # fmt: skip


def test_every_key_is_a_field_or_told_to_the_service() -> None:
    text = "".join(f"{key}\n" for key in KEYS)
    assert "given" not in text and set(KEYS) >= {"port", "target", "after"}
    fields = set(Environment.__dataclass_fields__)
    from perron.environments import ELSE, SERVICE

    assert set(KEYS) == (fields - {"name", "service", "given"}) | set(SERVICE) | set(ELSE)
