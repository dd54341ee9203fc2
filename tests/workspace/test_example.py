"""The example workspace is sound, and no key or value of it can be wrong without being told."""

from copy import deepcopy
from pathlib import Path

import msgspec
import pytest

from app.folder import files
from workspace.definitions import from_normal, load, normal_form
from workspace.problem import dotted
from workspace.yaml_reader import read

FILES, _ = files(Path(__file__).parents[2] / "config")
PLAIN = {name: read(name, data) for name, data in FILES}
LOOPBACK = {"WATERSMEET_OUTBOUND_ALLOW": "127.0.0.0/8,::1/128"}

FREE = {"labels", "headers", "trait", "where", "context", "branches", "steps"}
"""Under these stand names that are the user's own: any is right. So are the keys of definitions."""


def paths(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths(inner, (*path, place))


def fixed(path) -> bool:
    """Tell whether a path ends in a key of the grammar rather than a name of the user's."""
    if len(path) == 2 and path[0] not in ("workspace", "identity"):
        return False
    if len(path) < 2 or path[-2] not in FREE:
        return True
    # `where` of an audience holds a condition; of an event, names of its properties.
    return path[-2] == "where" and path[-1] in ("all", "any", "not", "performed", "trait")


NAMES = pytest.mark.parametrize("name", list(PLAIN), ids=[Path(name).stem for name in PLAIN])


def problems_of(name, value):
    mutated = msgspec.json.encode(value)
    return load([(n, mutated if n == name else data) for n, data in FILES], LOOPBACK)


def at(value, path):
    for step in path:
        value = value[step]
    return value


def test_workspace_WS08_the_example_is_sound():
    definitions, problems = load(FILES, LOOPBACK)
    assert [str(problem) for problem in problems] == []
    assert definitions is not None
    assert len(definitions.sources) == 3
    assert "webhook" in definitions.destinations
    assert definitions.audiences
    assert definitions.journeys


def test_workspace_WS08_the_example_blocks_no_event_and_keeps_the_limits_of_identity():
    definitions, _ = load(FILES, LOOPBACK)
    webhook = definitions.destinations["webhook"]
    assert webhook.events.names is msgspec.UNSET
    assert webhook.events.types is msgspec.UNSET
    assert definitions.identity.types == {}
    assert definitions.identity.blocked == {}


def test_workspace_WS07_the_example_comes_back_from_its_normal_form():
    definitions, _ = load(FILES, LOOPBACK)
    body = normal_form(definitions)
    assert from_normal(body) == definitions
    assert normal_form(from_normal(body)) == body
    assert normal_form(load(reversed(FILES), LOOPBACK)[0]) == body


@NAMES
def test_workspace_WS08_a_misspelt_key_of_the_example_is_named(name):
    for path in filter(fixed, paths(PLAIN[name].value)):
        if isinstance(path[-1], int):
            continue
        value = deepcopy(PLAIN[name].value)
        parent = at(value, path[:-1])
        wrong = path[-1][:-1] + "qz"
        value_of = parent.pop(path[-1])
        parent[wrong] = value_of

        definitions, problems = problems_of(name, value)

        assert definitions is None
        named = [one.file for one in problems if one.key == dotted((*path[:-1], wrong))]
        assert named == [name], [path, *map(str, problems)]


@NAMES
@pytest.mark.parametrize("wrong", [[[]], {"qz": []}, None], ids=["list", "map", "nothing"])
def test_workspace_WS08_a_mistyped_value_of_the_example_is_named(name, wrong):
    for path in paths(PLAIN[name].value):
        if wrong is None and len(path) == 1 and path[0] != "version":
            continue  # a top key may be empty
        value = deepcopy(PLAIN[name].value)
        at(value, path[:-1])[path[-1]] = wrong

        definitions, problems = problems_of(name, value)

        assert definitions is None
        named = [one for one in problems if one.file == name and one.key.startswith(dotted(path))]
        assert named, [path, *map(str, problems)]
