"""What only GitHub or a contributor's machine runs: it is parsed here, and fits its schema."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

PROJECT: Final = Path(__file__).parents[2]
GITHUB: Final = PROJECT / ".github"
PYPROJECT: Final = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))


def _read(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", [GITHUB / "workflows" / "ci.yml"]),
        ("vendor.github-issue-forms", [GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml"]),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
    ],
)
def test_files_for_github_fit_their_schema(schema: str, files: list[Path]) -> None:
    """The schemas come with check-jsonschema; nothing is fetched."""
    assert files
    done = _run("-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files))
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_on_each_promised_python() -> None:
    """Each version that the classifiers name is in the matrix, the lowest allowed one as well."""
    job = _read(GITHUB / "workflows" / "ci.yml")["jobs"]["check"]
    classifiers = " ".join(PYPROJECT["project"]["classifiers"])
    promised = set(re.findall(r"Python :: (3\.\d+)", classifiers))
    lowest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert lowest in promised
    assert promised <= set(job["strategy"]["matrix"]["python"])
    assert {"run": ".ci/run"} in job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_do_little_and_pin_what_they_use(path: Path) -> None:
    """By default a job may read the repository and nothing else; each action has a version."""
    workflow = _read(path)
    assert workflow["permissions"] == {"contents": "read"}
    actions = [
        step["uses"]
        for job in workflow["jobs"].values()
        for step in job.get("steps", [])
        if "uses" in step
    ]
    assert actions
    assert [each for each in actions if not re.fullmatch(r"[\w./-]+@(release/)?v\d+", each)] == []


def test_a_release_is_checked_built_attested_and_published_in_this_order() -> None:
    """Only the last two jobs may ask for an identity, and none has a secret."""
    path = GITHUB / "workflows" / "release.yml"
    workflow = _read(path)
    jobs = workflow["jobs"]
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    assert jobs["check"]["uses"] == "./.github/workflows/ci.yml"
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "check": None,
        "build": "check",
        "attest": "build",
        "publish": "attest",
    }
    identified = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert identified == ["attest", "publish"]
    assert "secrets." not in path.read_text(encoding="utf-8")


def test_the_bug_form_asks_for_the_version_and_explain_and_forbids_tokens() -> None:
    """A report without a version or with a token in it helps nobody."""
    body = _read(GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml")["body"]
    fields = {each["id"]: each for each in body if "id" in each}
    assert fields["version"]["validations"] == {"required": True}
    assert "gate.explain(" in fields["explain"]["attributes"]["description"]
    (clean,) = fields["clean"]["attributes"]["options"]
    assert "token" in clean["label"]
    assert clean["required"] is True


def test_pre_commit_runs_what_make_check_runs() -> None:
    """Its one hook is local and calls the Makefile, so the two can't differ."""
    (repository,) = _read(PROJECT / ".pre-commit-config.yaml")["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["language"]) == ("local", "system")
    assert hook["entry"] == "make --silent check"
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^check:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)
    assert [command in recipe for command in ("ruff format --check", "ruff check", "mypy")] == [
        True,
        True,
        True,
    ]


def test_pre_commit_reads_its_configuration() -> None:
    """pre-commit itself finds it valid. It comes with the group `lint`."""
    pytest.importorskip("pre_commit", reason="pre-commit is not installed (group lint)")
    done = _run("-m", "pre_commit", "validate-config", str(PROJECT / ".pre-commit-config.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
