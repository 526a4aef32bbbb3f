"""The package as a whole: what importing it costs, what it offers, and that its rooms know only what stands below."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xray_harmonize

ROOT = Path(xray_harmonize.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# From the ground up. A module imports from its own room and from floors below; rooms of one floor know nothing of each
# other.
FLOORS = [
    {"exceptions"},
    {"parameters"},
    {"image_transformer", "levels", "thresholding", "radiograph", "atomic", "training", "windowing"},
    {"tone", "callbacks", "networks", "download"},
    {"dicom"},
    {"persistence"},
    {"raster"},
    {"reading"},
    {"labels"},
    {"image_sources"},
    {"images"},
    {"geometry", "adaptation", "catalog"},
    {"classifiers", "datasets", "archive"},
    {"harmonizers"},
    {"evaluation"},
    {"report"},
    {"auditing"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports_of(path):
    """Modules of the package that a file imports, wherever in it; those for the type checker alone left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in set(ast.walk(tree)) - for_types:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            found |= {f"{node.module}.{name.name}" for name in node.names} | {node.module or ""}
    inside = {name.removeprefix("xray_harmonize.") for name in found if name.startswith("xray_harmonize.")}
    return {name for name in inside if name in MODULES}


GRAPH = {module: imports_of(path) - {module} for module, path in MODULES.items()}


def room(module):
    return module.split(".")[0]


def test_every_module_has_a_floor():
    assert {room(module) for module in MODULES if module} - set(FLOOR) == set()


@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_imports_point_downwards(module):
    upwards = [
        other for other in GRAPH[module] if room(other) != room(module) and FLOOR[room(other)] >= FLOOR[room(module)]
    ]
    assert not upwards, f"{module} imports {', '.join(upwards)}"


def test_no_imports_go_in_a_circle():
    # Importing a room's member imports the room itself, which may name its members; that is no circle of the code.
    graph = {
        module: {other for other in found if not module.startswith(f"{other}.")} for module, found in GRAPH.items()
    }
    done, path = set(), []

    def visit(module):
        assert module not in path, f"circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            path.append(module)
            for other in sorted(graph[module]):
                visit(other)
            path.pop()
            done.add(module)

    for module in graph:
        visit(module)


def test_importing_the_package_draws_in_nothing_heavy():
    heavy = ("torch", "skorch", "monai", "numba", "matplotlib", "pandas", "sklearn", "scipy", "cv2", "typer", "jinja2")
    code = f"import sys, xray_harmonize; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_harmonizer_needs_no_network_library():
    code = (
        "import sys, numpy as np, xray_harmonize as xh\n"
        "fitted = xh.CDFMatching().fit(np.ones((2, 4, 4)))\n"
        "print(*[name for name in ('torch', 'skorch', 'monai', 'matplotlib', 'numba') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", sorted(xray_harmonize._PUBLIC))
def test_every_public_name_is_there_and_documented(name):
    value = getattr(xray_harmonize, name)
    assert value.__doc__
    assert value.__name__ == name
    assert name in xray_harmonize.__all__
    assert name in dir(xray_harmonize)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'xray_harmonize' has no attribute 'missing'"):
        _ = xray_harmonize.missing
    with pytest.raises(ImportError):
        from xray_harmonize import missing  # noqa: F401


def test_the_version_is_that_of_the_project():
    lines = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert f'version = "{xray_harmonize.__version__}"' in lines


def test_the_package_is_typed():
    assert (ROOT / "py.typed").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_holds_one_idea_and_says_which(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
    assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_unfinished_and_no_error_is_swallowed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{path.name}: bare except"
        assert not (isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node)), f"{path.name}: a stub"
        assert not (isinstance(node, ast.Call) and ast.unparse(node.func) == "print"), f"{path.name}: print"
    assert not set(path.read_text(encoding="utf-8").split()) & {"TODO", "TODO:", "FIXME", "FIXME:", "XXX"}
