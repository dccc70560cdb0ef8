"""Where things stand: three services with one skeleton, what they share, and files that are small."""

import ast
import tomllib

import grimp
import pytest

from tests.architecture.tree import ROOT, SERVICES, modules, parsed

_SKELETON = {"__init__.py", "__main__.py", "app.py", "metrics.py", "settings.py"}
_ROOMS = {"deploy", "docs", "requirements", "services", "shared", "tests"}
_DRAWERS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "constants"}
_LINES_MAX = 400
_NOT_IMPORTED = (
    "shared.journey.models",  # read as files
    "shared.store.migrations",  # run by Alembic
    "shared.store.tables",  # what the migrations are compared with
)


@pytest.mark.parametrize("service", SERVICES)
def test_the_services_have_the_same_skeleton(service: str) -> None:
    """Who knows one service knows where to begin in the others: command, wiring, settings, metrics."""
    found = {file.name for file in (ROOT / "services" / service).glob("*.py")}
    assert not _SKELETON - found


def test_the_project_has_these_rooms_and_no_others() -> None:
    """Every folder of the checkout that isn't hidden or made by make has its known purpose."""
    made = {"build", "dist", "data"}
    found = {folder.name for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")}
    assert found - made == _ROOMS


def test_shared_holds_what_at_least_two_processes_use() -> None:
    """A module that only one service reaches belongs into that service. The command is a process too."""
    graph = grimp.build_graph("services", "shared", cache_dir=None)
    lonely = {}
    for module in sorted(graph.find_descendants("shared")):
        reached_from = graph.find_downstream_modules(module, as_package=True)
        users = {_process(name) for name in reached_from if name.startswith("services.")}
        if len(users) < 2 and not module.startswith(_NOT_IMPORTED):
            lonely[module] = users

    assert not lonely


def test_no_module_is_a_drawer() -> None:
    """A module's name says what it is about, and not that something had to go somewhere."""
    everywhere = modules("services", "shared", "tests")
    drawers = [str(module) for module in everywhere if _DRAWERS & set(module.with_suffix("").parts)]
    assert not drawers


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    """A file is one idea; beyond this many lines it is two."""
    long = {}
    for module in modules("services", "shared"):
        lines = len((ROOT / module).read_text().splitlines())
        if lines > _LINES_MAX:
            long[str(module)] = lines

    assert not long


def test_every_module_says_what_it_is() -> None:
    """Each module and each package begins with a sentence about itself; an empty one has nothing to say."""
    silent = []
    for module in modules("services", "shared", "tests"):
        tree = parsed(module)
        silent += [str(module)] if tree.body and not ast.get_docstring(tree) else []

    assert not silent


def test_every_test_states_the_law_that_it_proves() -> None:
    """Each test has a docstring."""
    silent = [
        f"{module}: {node.name}"
        for module in modules("tests")
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent


def test_the_command_is_the_one_that_pip_installs() -> None:
    """`rejse` starts the command line, on the Python that the linters check for."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["scripts"] == {"rejse": "services.cli:main"}
    python = pyproject["project"]["requires-python"].removeprefix(">=")
    assert pyproject["tool"]["mypy"]["python_version"] == python
    assert pyproject["tool"]["ruff"]["target-version"] == f"py{python.replace('.', '')}"


def _process(module: str) -> str:
    part = module.split(".")[1]
    return part if part in SERVICES else "command"
