"""The documentation names what there is: pages, public names, methods, examples; code in it is code."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest

import xray_harmonize

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *DOCS.glob("methods/*.md")])
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
# Made by sphinx-gallery from the examples.
GALLERY = {f"gallery/{path.stem}" for path in EXAMPLES} | {"gallery/index"}
FENCE = re.compile(r"^( *)```(\{?[\w-]*\}?)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """Fenced blocks of a page: what they hold, and their lines without indentation."""
    return [(kind, dedent(body)) for _, kind, body in FENCE.findall(text)]


def page_names() -> set[str]:
    """Every document by its place below docs, without its ending."""
    sources = [*DOCS.glob("*.md"), DOCS / "api.rst", *DOCS.glob("guide/*.md"), *DOCS.glob("methods/*.md")]
    return {path.relative_to(DOCS).with_suffix("").as_posix() for path in sources} | GALLERY


def resolved(page: Path, target: str) -> str:
    """Name of a document that a page refers to."""
    place = (page.parent / target).resolve().relative_to(DOCS.resolve())
    return place.with_suffix("").as_posix() if place.suffix in (".md", ".rst") else place.as_posix()


def entries(text: str) -> list[str]:
    """Documents that the toctrees of a page name."""
    found = []
    for kind, body in blocks(text):
        if kind == "{toctree}":
            lines = [line.strip() for line in body.splitlines() if line.strip() and not line.startswith(":")]
            found += [re.sub(r".*<(.+)>$", r"\1", line) for line in lines]
    return found


def documented() -> list[str]:
    """Names in the tables of the API page."""
    lines = (DOCS / "api.rst").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if re.fullmatch(r"   [A-Za-z_][\w.]*", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_entry_of_a_toctree_exists(page):
    assert {resolved(page, one) for one in entries(page.read_text(encoding="utf-8"))} <= page_names()


def test_every_page_is_in_a_toctree():
    named = {resolved(page, one) for page in PAGES for one in entries(page.read_text(encoding="utf-8"))}
    assert page_names() - named - GALLERY == {"index"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_to_pages_and_pictures_resolve(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", text) + re.findall(r"```\{image\} (\S+)", text)
    for link in links:
        assert (page.parent / link).exists(), link
    cards = re.findall(r"^:link: (\S+)$", text, re.MULTILINE)
    roles = [re.sub(r".*<(.+)>$", r"\1", one) for one in re.findall(r"\{doc\}`([^`]+)`", text)]
    assert {resolved(page, one) for one in [*cards, *roles]} <= page_names()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_python_in_a_page_compiles(page):
    for kind, body in blocks(page.read_text(encoding="utf-8")):
        if kind == "python":
            ast.parse(body)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_python_names_in_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\{py:\w+\}`~?(xray_harmonize[\w.]*)`", text):
        parts = name.split(".")[1:]
        owner: object = xray_harmonize
        for depth, part in enumerate(parts):
            # A public name may be called like the package that it comes from: audit, archive.
            owner = (
                getattr(owner, part) if hasattr(owner, part) else import_module(".".join(name.split(".")[: depth + 2]))
            )
    for kind, body in blocks(text):
        if kind != "python":
            continue
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xray_harmonize"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_every_public_name_is_on_the_api_page():
    assert set(xray_harmonize.__all__) - {"__version__"} <= set(documented())


@pytest.mark.parametrize("name", documented())
def test_every_name_on_the_api_page_exists_and_is_explained(name):
    module, _, attribute = f"xray_harmonize.{name}".rpartition(".")
    owner = import_module(module)
    found = getattr(owner, attribute) if hasattr(owner, attribute) else import_module(f"xray_harmonize.{name}")
    assert (found.__doc__ or "").strip()


def test_every_method_has_a_page_in_the_index():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("methods/*.md")}
    harmonizers = [
        name
        for name in xray_harmonize.__all__
        if getattr(getattr(xray_harmonize, name), "__module__", "").startswith(
            ("xray_harmonize.harmonizers", "xray_harmonize.geometry")
        )
    ]
    assert len(harmonizers) >= 9
    for name in harmonizers:
        assert f"`{name}`" in pages["index"]
        assert any(f"~xray_harmonize.{name}`" in text for stem, text in pages.items() if stem != "index"), name


def test_every_harmonizer_has_a_row_among_the_systems_with_its_figure():
    lines = (DOCS / "systems.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:-1] for line in lines if "|" in line]
    rows = [row for row in rows if not set("".join(row)) <= set("- |")]
    for name in xray_harmonize.__all__:
        found = getattr(xray_harmonize, name)
        if not getattr(found, "__module__", "").startswith("xray_harmonize.harmonizers"):
            continue
        own = [row for row in rows if re.search(rf"\b{name}\b", row[2])]
        assert own, name
        # What it is, its figure here, and the paper's where there is one; never an empty cell.
        assert all(cell.strip() for row in own for cell in row), name


def test_the_systems_name_every_system_of_the_papers():
    text = (DOCS / "systems.md").read_text(encoding="utf-8")
    for name in (
        *("GDCE", "full range", "display window", "z-score", "ResNet-50", "VGG-16", "fine-tuning", "EMBED"),
        *("BlindHarmony", "neural spline flow", "HM", "SSIMH", "CycleGAN", "U-net", "segmentation network"),
        *("interpretable mapping", "ResUNet", "DLBC", "3DLUT", "Sup-DCE", "downscale 4", "downscale 16"),
        *("min/max", "distribution function", "Fourier", "scanner type", "deep features", "acquisition", "SQLite"),
        "downloading",
    ):
        assert f"| {name}" in text or f"{name} " in text, name


def test_commands_and_files_among_the_systems_exist():
    text = (DOCS / "systems.md").read_text(encoding="utf-8")
    scripts = set(re.findall(r"`(?:python\s+)?(?:benchmarks/)?([a-z_]+\.py)", text))
    assert {"gdce_study.py", "blind_study.py", "mapping_study.py", "audit_checks.py", "index_speed.py"} <= scripts
    for name in scripts:
        assert (ROOT / "benchmarks" / name).exists(), name
    written = {"blind_mean.csv", "mapping_study.csv", "mapping_maps.csv"}
    for name in set(re.findall(r"`([a-z_]+\.csv)`", text)) - written:
        assert (ROOT / "benchmarks" / "results" / name).exists(), name


@pytest.mark.parametrize("page", ["blind", "pairs", "cyclegan"])
def test_recipes_for_a_gpu_are_accepted(page):
    text = (DOCS / "methods" / f"{page}.md").read_text(encoding="utf-8")
    recipes = [body for kind, body in blocks(text) if kind == "python"]
    assert recipes
    for recipe in recipes:
        names: dict[str, object] = {}
        exec(recipe, names)
        made = [one for value in names.values() for one in (value if isinstance(value, list) else [value])]
        estimators = [one for one in made if hasattr(one, "fit") and not isinstance(one, type)]
        assert estimators
        for one in estimators:
            assert one.device == "cuda"
            one._check_parameters()


@pytest.mark.parametrize(
    "page", [page for page in DOCS.glob("methods/*.md") if page.stem != "index"], ids=lambda page: page.stem
)
def test_a_method_page_tells_source_needs_failures_and_an_example(page):
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"Source", "Parameters that matter", "What it needs to see", "When it fails", "See it run"} <= set(headings)


def test_the_gallery_has_an_order_for_every_example(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    order = importlib.import_module("gallery_order").READING_ORDER
    assert sorted(order) == [path.stem for path in EXAMPLES]
    assert len(order) >= 10


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_ends_with_what_was_seen(path):
    last = path.read_text(encoding="utf-8").rstrip().rpartition("\n# %%\n")[2].splitlines()
    assert last
    assert all(line.startswith("# ") for line in last)


def commands() -> list[tuple[str, str]]:
    """Lines of shell in pages and examples that call the package's command."""
    found = []
    for page in PAGES:
        for kind, body in blocks(page.read_text(encoding="utf-8")):
            if kind != "python":
                lines = [line for line in body.splitlines() if line.startswith("xray-harmonize ")]
                found += [(page.stem, line.split("  #")[0]) for line in lines]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_in_pages_have_these_options(page, line):
    from typer.main import get_command

    from xray_harmonize.cli.main import app

    words = shlex.split(line)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in [*parameter.opts, *parameter.secondary_opts]}
    assert {word for word in words if word.startswith("--")} <= known
