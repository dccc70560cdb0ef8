"""The image: pinned, locked, without root, and its steps work on what the builder is given."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shared.config import PREFIX, VARIABLES
from tests.deploy.compose import our_services
from tests.deploy.dockerfile import FILE, copied, files, in_context, of
from tests.deploy.tools import ROOT, check, installed
from tests.support.child import inherited_env

_BUILD, _RUN = 1, 2
_PYTHON = "/opt/rejse/bin/python"


def test_hadolint_finds_no_fault() -> None:
    """Hadolint, and ShellCheck in it, accept every instruction."""
    check([installed("hadolint"), "--no-color", FILE])


def test_both_stages_stand_on_one_pinned_image() -> None:
    """The image's tag names the oldest Python that the project allows, and its Debian."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    python = pyproject["project"]["requires-python"].removeprefix(">=")

    assert of("ARG", 0) == [f"PYTHON_IMAGE=python:{python}-slim-bookworm"]
    assert of("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_what_is_installed_is_locked_by_hash_and_leaves_no_cache() -> None:
    """Everything from outside is checked against the lock; the project itself brings nothing along."""
    locked, project = _installs()
    assert "--require-hashes -r requirements/run.txt" in locked
    assert project.endswith("--no-deps --no-build-isolation .")
    assert "--no-cache-dir" in locked
    assert "--no-cache-dir" in project


def test_the_process_is_nobody_special_and_gets_its_signals() -> None:
    """It runs under a number that is not root's, as process 1 by itself and not under a shell."""
    (user,) = of("USER", _RUN)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert json.loads(of("ENTRYPOINT", _RUN)[0]) == ["rejse"]
    assert json.loads(of("CMD", _RUN)[0]) == ["--help"]


def test_probes_are_the_orchestrator_s_and_nothing_is_fetched_by_add() -> None:
    """The image has no probe of its own: the three commands need different ones."""
    assert not of("HEALTHCHECK") + of("ADD") + of("VOLUME")


def test_the_image_s_settings_and_ports_are_those_of_the_code() -> None:
    """What the image presets exists, and it names the default ports."""
    defaults = {variable.env: variable.default for variable in VARIABLES}
    preset = set(re.findall(rf"({PREFIX}\w+)=", " ".join(of("ENV", _RUN))))
    ports = {default for env, default in defaults.items() if env.endswith("_PORT") and default}

    assert preset <= defaults.keys()
    assert set(of("EXPOSE", _RUN)[0].split()) == ports


def test_the_data_folder_is_the_user_s_and_where_the_spool_s_volume_goes() -> None:
    """A fresh volume takes over the owner of the folder that it is put on."""
    user = of("USER", _RUN)[0].split(":")[0]
    made = re.search(rf"install --directory --owner {user} .* (/\S+)$", of("RUN", _RUN)[0])
    assert made is not None
    assert f"REJSE_DATA_DIR={made[1]}" in of("ENV", _RUN)[0]
    assert f"spool:{made[1]}" in our_services()["ingest"]["volumes"]


def test_the_builder_is_given_all_that_is_copied_and_nothing_of_this_machine() -> None:
    """Every source is there and not ignored; caches, environments, secrets and tests stay out."""
    for source, _ in copied():
        assert list(files(source)), f"{source} is missing or ignored"
    for path in (
        ".env",
        ".venv/bin/python",
        ".cache/x",
        ".git/config",
        "tests/x.py",
        "services/__pycache__/x.pyc",
    ):
        assert not in_context(path), path


def test_the_project_installs_and_runs_from_what_the_builder_is_given(tmp_path: Path) -> None:
    """The last step of the build, taken in a bare environment, makes a `rejse` that has its data with it."""
    context, environment = tmp_path / "src", tmp_path / "environment"
    for source, target in copied():
        for file in files(source):
            place = context / (f"{target}{file.name}" if target.endswith("/") else file)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, place)
    python = _bare_environment(environment)

    install = _installs()[1].replace(_PYTHON, str(python)).removeprefix("pip ")
    _run([sys.executable, "-m", "pip", *shlex.split(install)], context)

    listed = _run([str(python.with_name("rejse")), "journeys", "list"], tmp_path)
    assert "purchase-lifecycle" in listed
    found = _run([str(python), "-c", "import services; print(services.__file__)"], tmp_path)
    assert found.startswith(str(environment))


def _installs() -> tuple[str, str]:
    locked, project = (value for value in of("RUN", _BUILD) if value.startswith("pip "))
    return locked, project


def _bare_environment(folder: Path) -> Path:
    """An environment as the build makes it, which borrows what is locked from this one. Its Python."""
    command = of("RUN", _BUILD)[0]
    _run([sys.executable, *shlex.split(command)[1:-1], str(folder)], folder.parent)
    python = folder / "bin/python"
    libraries = _run([str(python), "-c", "import site; print(site.getsitepackages()[0])"], folder.parent)
    borrowed = Path(libraries.strip()) / "borrowed.pth"
    # After its own, so that the project that is installed there comes first.
    lender = importlib.util.find_spec("hatchling")
    assert lender is not None
    assert lender.origin is not None
    borrowed.write_text(str(Path(lender.origin).parents[1]))
    return python


def _run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command, capture_output=True, check=False, cwd=cwd, env=inherited_env(), text=True, timeout=100
    )
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout
