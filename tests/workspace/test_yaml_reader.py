"""The YAML that workspace files are written in (WS-05)."""

import pytest

from workspace.yaml_reader import LARGEST_BYTES, read


def value(text: str):
    document = read("a.yaml", text.encode())
    assert document.problems == []
    return document.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"), ("on", "on"), ("off", "off"), ("yes", "yes"), ("NO", "NO"), ("y", "y"),
        ("true", True), ("False", False), ("null", None), ("~", None),
        ("012", 12), ("0o14", 12), ("0x1F", 31), ("-7", -7), ("+7", 7), ("1_000", "1_000"),
        ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("1.2.3", "1.2.3"), ("12:30", "12:30"),
        ("2025-01-01", "2025-01-01"), ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ('"012"', "012"), ("'true'", "true"), ("=", "="), ("0b1", "0b1"), ("-", ["x"]),
    ],
)  # fmt: skip
def test_workspace_WS05_scalars_are_those_of_the_core_schema_of_YAML_1_2(text, expected):
    text = "- x" if text == "-" else text
    found = value(f"a: {text}\n" if not text.startswith("- ") else f"a:\n  {text}\n")
    assert found == {"a": expected}
    assert type(found["a"]) is type(expected)


def test_workspace_WS05_keys_are_always_text():
    assert value("on: 1\n404: 2\nnull: 3\n1.5: 4\n") == {"on": 1, "404": 2, "null": 3, "1.5": 4}


def test_workspace_WS05_places_count_from_one_in_characters():
    document = read("a.yaml", "größe: {wert: [a, b]}\nz: |\n  x\n".encode())
    assert document.keys[("größe",)] == (1, 1)
    assert document.values[("größe",)] == (1, 8)
    assert document.keys[("größe", "wert")] == (1, 9)
    assert document.values[("größe", "wert", 1)] == (1, 19)
    assert document.values[("z",)] == (2, 4)


def test_workspace_WS05_the_place_of_what_is_absent_is_that_of_its_nearest_parent():
    document = read("a.yaml", b"a:\n  b: 1\n")
    assert document.place(("a", "c")) == (1, 1)
    assert document.place(("x",)) == (1, 1)
    assert document.place(("a", "b"), key=True) == (2, 3)
    assert document.place(("a", "b")) == (2, 6)


def test_workspace_WS05_bytes_that_are_not_UTF_8_are_refused_with_their_place():
    document = read("a.yaml", b"a: 1\nb: caf\xe9\n")
    assert [str(problem) for problem in document.problems] == [
        "a.yaml:2:7: the byte 0xe9 is not UTF-8; save the file as UTF-8"
    ]


def test_workspace_WS05_a_file_of_UTF_16_is_refused():
    assert read("a.yaml", "a: 1".encode("utf-16")).problems[0].what == "the byte 0xff is not UTF-8"


def test_workspace_WS05_a_byte_order_mark_is_passed_over():
    assert value("\ufeffa: 1\n") == {"a": 1}


def test_workspace_WS05_control_characters_are_refused_with_their_place():
    problem = read("a.yaml", b"a: 1\nb: x\x00y\n").problems[0]
    assert (problem.line, problem.column) == (2, 5)
    assert "U+0000" in problem.what


def test_workspace_WS05_a_file_may_have_4_MiB_and_no_more():
    line = b"# " + b"x" * 61 + b"\n"
    whole = b"a: 1\n" + line * ((LARGEST_BYTES - 5) // len(line))
    whole += b"#" * (LARGEST_BYTES - len(whole))
    assert len(whole) == LARGEST_BYTES
    assert read("a.yaml", whole).problems == []
    assert "4 MiB" in read("a.yaml", whole + b"#").problems[0].what


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 5_000, "- " * 5_000, "[[" * 200])
def test_workspace_WS05_what_is_nested_without_end_is_refused_at_once(text):
    problems = read("a.yaml", text.encode()).problems
    assert len(problems) == 1


def test_workspace_WS05_aliases_cannot_blow_up():
    text = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    document = read("a.yaml", text.encode())
    assert len(document.problems) == 21 + 40  # each anchor, each alias, once


def test_workspace_WS05_all_problems_before_a_syntax_error_are_told():
    document = read("a.yaml", b"a: !!str 1\nb: &x 2\nc: 'never closed\n")
    assert [problem.line for problem in document.problems] == [1, 2, 3]


@pytest.mark.parametrize("size", range(0, 120, 7))
def test_workspace_WS05_no_beginning_of_a_file_makes_it_raise(size):
    text = 'a: [1, {b: "x\\n", c: |\n  y\n}]\n? [k]\n: !t &x v\n*x : <<\n%T\n---\n...\n\t@`'
    read("a.yaml", text[:size].encode())
