"""What holds of the whole repository and no linter can see."""

import importlib.util
import json
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from app.web.ingest import ROUTES
from destinations.catalogue import CATALOGUE
from journeys.catalogue import KINDS as STEPS
from profiles.computed.catalogue import KINDS as COMPUTED
from workspace.definitions import MAPS, load
from workspace.yaml_reader import read

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NO_ROOMS = {"tests", "bench", "docs", "config"}


@cache
def contracts():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


@cache
def names_of_tests():
    found = []
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        found += re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    return found


# ---- rooms ---------------------------------------------------------------------------------------
def test_house_every_room_is_in_the_contracts():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - NO_ROOMS
    assert rooms == set(contracts()["root_packages"])
    layers = contracts()["contracts"][0]["layers"]
    assert rooms == {room.strip() for layer in layers for room in layer.split("|")}


def test_house_an_init_is_empty_but_for_the_applications():
    full = {path.parent.name for path in ROOT.glob("[a-z]*/**/__init__.py")
            if path.read_text().strip() and "node_modules" not in path.parts}
    assert full == {"app"}


SHARED = {"catalogue", "definition", "exact", "kind", "unique"}
"""Files of `profiles/computed` that are not a kind of their own."""


def test_house_every_extension_is_in_its_catalogue():
    assert files("profiles/computed") - SHARED == set(COMPUTED)
    assert files("journeys/steps") == set(STEPS)
    kinds = {path.stem for path in (ROOT / "destinations").glob("*.py")
             if re.search(r"^KIND = ", path.read_text(), re.MULTILINE)}
    assert kinds == set(CATALOGUE)


def files(folder):
    return {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}


# ---- rules ---------------------------------------------------------------------------------------
HOMES = {"WS": "workspace", "C-": "collect", "E-": "events", "G-": "governance"}
"""Ids that say by themselves which area they are of; all others are of their file's."""


def home(area, id):
    return HOMES.get(id[:2], area), id.replace("-", "")


@cache
def rules():
    """Return (area, id) -> the files that have it."""
    found = {}
    for path in sorted((ROOT / "docs/rules").glob("*.md")):
        for id in re.findall(r"^- ([A-Z]+-?\d+[a-z]?)\b", path.read_text(), re.MULTILINE):
            found.setdefault(home(path.stem.replace("-", "_"), id), []).append(path.name)
    return found


@cache
def named():
    """Return the (area, id) that tests name."""
    areas = "|".join(sorted({area for area, _ in rules()}, key=len, reverse=True))
    shape = re.compile(rf"test_({areas})_((?:[A-Z]+\d+[a-z]?_)+)")
    found = set()
    for name in names_of_tests():
        match = shape.match(name)
        for id in match[2].split("_")[:-1] if match else ():
            found.add(("workspace" if id.startswith("WS") else match[1], id))
    return found


def test_house_every_rule_has_a_test_that_names_it():
    missing = sorted(set(rules()) - named())
    assert not missing, f"rules without a test: {missing}"


def test_house_every_id_that_a_test_names_is_a_rule():
    missing = sorted(named() - set(rules()))
    assert not missing, f"tests that name no rule of docs/rules: {missing}"


# ---- docs ----------------------------------------------------------------------------------------
def test_house_the_reference_is_what_make_docs_writes():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    kept = {path.name: path.read_text() for path in generate.REFERENCE.glob("*.md")}
    assert kept == generate.pages(), "run: make docs"


def blocks():
    for path in DOCS:
        text = path.read_text()
        for match in re.finditer(r"^```ya?ml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            yield pytest.param(match[1], id=f"{path.relative_to(ROOT)}:{line}")


@pytest.mark.parametrize("block", list(blocks()))
def test_house_every_yaml_block_in_the_docs_passes_check(block):
    """A block is a file of the example workspace, and replaces what it defines anew."""
    given = read("block.yaml", block.encode())
    assert given.problems == []
    kept = [(path.name, json.dumps(without(read(path.name, path.read_bytes()).value, given.value)))
            for path in sorted(CONFIG.rglob("*.yaml"))]
    _, problems = load([*((name, text.encode()) for name, text in kept),
                        ("block.yaml", block.encode())])
    assert [str(problem) for problem in problems if not problem.warning] == []


def without(file, other):
    found = {}
    for top, value in file.items():
        if top in MAPS:
            value = {key: one for key, one in value.items() if key not in (other.get(top) or {})}
        elif top in other and top != "version":
            continue
        found[top] = value
    return found


def test_house_links_in_the_docs_lead_somewhere():
    lost = []
    for path in DOCS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            if not (path.parent / target).exists():
                lost.append(f"{path.relative_to(ROOT)}: {target}")
    assert lost == []


def test_house_decisions_are_numbered_and_of_one_form():
    paths = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert [path.name[:5] for path in paths] == [f"{n:04d}-" for n in range(1, len(paths) + 1)]
    for path in paths:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert heads == ["Situation", "Choice", "Figures and how to repeat them",
                         "What we gave up", "When to look again"], path.name


def test_house_decisions_that_the_code_names_exist():
    kept = {path.name[:4] for path in (ROOT / "docs/decisions").glob("*.md")}
    for path in ROOT.glob("[a-z]*/**/*.py"):
        for number in re.findall(r"decision (\d{4})", path.read_text()):
            assert number in kept, f"{path.relative_to(ROOT)} names decision {number}"


def test_house_the_docs_name_every_route_of_the_tracking_api():
    text = (ROOT / "docs/http.md").read_text()
    assert [path for path in ROUTES if f"`{path}`" not in text] == []
