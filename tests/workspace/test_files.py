"""Files make one workspace (WS-01 to WS-03, WS-06, WS-07), and its size."""

import random
import time

import msgspec
import pytest

from app.folder import files
from workspace.definitions import Definitions, digest, from_normal, load, normal_form

WEB = "version: 1\nsources:\n  web: {type: website, write_keys: [wk_web_0001]}\n"
APP = "version: 1\nsources:\n  app: {type: mobile, write_keys: [wk_app_0001]}\n"
HOOK = """\
version: 1
destinations:
  hook:
    type: webhook
    sources: [web, app]
    settings: {url: "https://hooks.example.com/in", headers: {B: b, A: a}}
"""


def loaded(*texts: str) -> Definitions:
    definitions, problems = load([(f"{n}.yaml", text.encode()) for n, text in enumerate(texts)])
    assert [str(problem) for problem in problems] == []
    assert definitions is not None
    return definitions


def told(*texts: str) -> list[str]:
    _, problems = load([(f"{n}.yaml", text.encode()) for n, text in enumerate(texts)])
    return [str(problem) for problem in problems]


# ---- WS-01, WS-02 --------------------------------------------------------------------------------
def test_workspace_WS01_a_workspace_is_the_union_of_its_files():
    assert sorted(loaded(WEB, APP, HOOK).sources) == ["app", "web"]


def test_workspace_WS01_files_and_folders_that_begin_with_a_dot_or_a_line_are_passed_over(tmp_path):
    for name in ("b.yaml", "a/c.yml", ".hidden.yaml", "_draft.yaml", "_old/d.yaml", ".git/e.yaml",
                 "note.txt", "a/f.yaml.bak"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(WEB)
    found, problems = files(tmp_path)
    assert [path.removeprefix(f"{tmp_path}/") for path, _ in found] == ["a/c.yml", "b.yaml"]
    assert problems == []


def test_workspace_WS01_a_link_that_leads_back_up_does_no_harm(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.yaml").write_text(WEB)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert len(files(tmp_path)[0]) == 1


def test_workspace_WS01_a_missing_folder_is_a_problem(tmp_path):
    _, problems = files(tmp_path / "nowhere")
    assert "there is no such folder" in str(problems[0])


def test_workspace_WS01_a_file_without_a_version_is_refused():
    assert told("sources: {}\n") == [
        '0.yaml:1:1: "version" is missing; begin the file with "version: 1"'
    ]


def test_workspace_WS02_an_unknown_top_key_proposes_the_nearest():
    assert told("version: 1\nsource: {}\n") == [
        '0.yaml:2:1: source: unknown key; did you mean "sources"?'
    ]


def test_workspace_WS02_a_top_key_without_a_body_is_empty():
    assert loaded("version: 1\nworkspace:\nidentity:\nsources:\naudiences:\n") == Definitions()


# ---- WS-03 ---------------------------------------------------------------------------------------
def test_workspace_WS03_a_key_given_twice_names_both_places():
    assert told(WEB, HOOK.replace("[web, app]", "[web]"), WEB) == [
        "2.yaml:3:3: sources.web: given twice, first at 0.yaml:3:3; "
        "remove one, or give it another key"
    ]


def test_workspace_WS03_one_key_may_name_things_of_different_kinds():
    assert loaded(WEB, HOOK.replace("hook:", "web:").replace("[web, app]", "[web]")).destinations


def test_workspace_WS03_the_workspace_and_the_identity_are_given_once():
    text = "version: 1\nworkspace: {name: A}\nidentity: {demotion: strict}\n"
    first, second = told(text, text)
    assert first.startswith("1.yaml:2:1: workspace: given twice, first at 0.yaml:2:1")
    assert second.startswith("1.yaml:3:1: identity: given twice, first at 0.yaml:3:1")


def test_workspace_WS03_a_key_has_letters_digits_and_lines():
    longest = "k" * 255
    assert longest in loaded(WEB.replace("web:", f"{longest}:")).sources
    assert loaded(WEB.replace("web:", "0_9:")).sources
    assert told(WEB.replace("web:", "Web:")) == [
        '0.yaml:3:3: sources.Web: the key "Web" may have only a-z, 0-9 and _; write "web"'
    ]


# ---- WS-06 ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    ["sql_traits: {}", "broadcasts: {}", "tests: {}", "tracking_plans: {}", "functions: {}",
     "reverse_etl: {}", "alerts: {}", "space: other", "workspace: {timezone: Asia/Tokyo}",
     "workspace: {spaces: [default, other]}", "identity: {alias_merges: true}",
     "destinations: {h: {type: slack, settings: {url: 'https://x.io'}}}",
     "destinations: {h: {type: webhook, enrich: [a], settings: {url: 'https://x.io'}}}",
     "audiences: {a: {level: account, where: {everyone: true}}}",
     "audiences: {a: {where: {consent: {Ads: true}}}}",
     "computed_traits: {t: {type: count, event: E, window: {session: 30m}}}"],
)  # fmt: skip
def test_workspace_WS06_what_is_not_built_yet_is_refused_and_nothing_else_is_said(text):
    found = told(f"version: 1\n{text}\n")
    assert len(found) == 1, found
    assert "not supported yet" in found[0]


# ---- WS-07 ---------------------------------------------------------------------------------------
def test_workspace_WS07_the_order_of_files_and_keys_never_matters():
    other = """\
version: 1
destinations:
  hook:
    settings: {headers: {A: a, B: b}, url: "https://hooks.example.com/in"}
    sources: [web, app]
    type: webhook
sources:
  web: {write_keys: [wk_web_0001], type: website}
  app: {write_keys: [wk_app_0001], type: mobile}
"""
    assert normal_form(loaded(WEB, APP, HOOK)) == normal_form(loaded(other))
    assert normal_form(loaded(WEB, APP, HOOK)) == normal_form(loaded(HOOK, WEB, APP))


def test_workspace_WS07_a_default_that_is_written_out_changes_nothing():
    written = WEB.replace("}", ", enabled: true, environment: production, spaces: [default]}")
    assert digest(normal_form(loaded(WEB))) == digest(normal_form(loaded(written)))


def test_workspace_WS07_the_normal_form_holds_the_defaults():
    plain = msgspec.json.decode(normal_form(loaded(WEB)))
    assert plain["sources"]["web"]["environment"] == "production"
    assert plain["workspace"]["dedup_window"] == "24h"


def test_workspace_WS07_a_change_changes_the_hash():
    assert digest(normal_form(loaded(WEB))) != digest(
        normal_form(loaded(WEB.replace("website", "mobile")))
    )


def test_workspace_WS07_definitions_come_back_from_their_normal_form():
    definitions = loaded(WEB, APP, HOOK)
    body = normal_form(definitions)
    assert from_normal(body) == definitions
    assert normal_form(from_normal(body)) == body


def test_audiences_Y6_any_order_of_keys_gives_one_normal_form():
    audience = {
        "name": "Buyers",
        "include_anonymous": True,
        "where": {
            "all": [
                {"performed": {"event": "E", "at_least": 2, "within": "7d",
                               "where": {"total": {"gt": 5, "lt": 9}, "sku": {"equals": "a"}}}},
                {"trait": {"plan": {"equals": "pro"}, "age": {"gte": 18}}},
            ]
        },
    }  # fmt: skip
    draw = random.Random(7)

    def shuffled(value):
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in draw.sample(sorted(value), len(value))}
        return [shuffled(one) for one in value] if isinstance(value, list) else value

    forms = set()
    for _ in range(50):
        text = msgspec.json.encode({"version": 1, "audiences": {"buyers": shuffled(audience)}})
        forms.add(normal_form(loaded(text.decode())))
    assert len(forms) == 1


# ---- WS-08, size ---------------------------------------------------------------------------------
def test_workspace_WS08_all_problems_of_all_files_come_at_once_sorted_by_place():
    found = told(
        "version: 1\nsources:\n  b: {type: webb}\n  a: {typ: mobile, write_keys: [wk_a_00001]}\n",
        "version: 1\naudiences:\n  x: {where: {audience: y}, histry: true}\n",
        "version: 1\nworkspace: *x\n",
    )
    assert [line.partition(": ")[0] for line in found] == [
        "0.yaml:3:3", "0.yaml:3:13", "0.yaml:4:7", "1.yaml:3:25", "1.yaml:3:29", "2.yaml:2:12",
    ]  # fmt: skip


def test_workspace_WS08_a_definition_that_is_faulty_still_exists_for_the_others():
    found = told(
        "version: 1\naudiences:\n  a: {where: {everyone: yes}}\n  b: {where: {audience: a}}\n"
    )
    assert len(found) == 1
    assert "audiences.a" in found[0]


def test_workspace_WS05_ten_thousand_definitions_load_in_seconds():
    texts = []
    for file in range(100):
        text = "version: 1\naudiences:\n"
        for n in range(100):
            text += (
                f"  a{file}_{n}:\n    name: Audience {n}\n    where:\n      all:\n"
                f"        - performed: {{event: Order Completed, at_least: {n + 1}, within: 7d}}\n"
                f"        - trait: {{plan: {{equals: pro}}}}\n"
                f"    destinations: [{{to: hook, send: [track]}}]\n"
            )
        texts.append(text)
    began = time.monotonic()
    definitions = loaded(WEB, HOOK.replace("[web, app]", "[web]"), *texts)
    seconds = time.monotonic() - began
    assert len(definitions.audiences) == 10_000
    assert seconds < 20  # about 2 s on one core of a small machine


def test_workspace_WS05_more_than_100_000_definitions_are_refused():
    many = "\n".join(f"  s{n}:" for n in range(60_000))
    found = told(f"version: 1\nsources:\n{many}\n", f"version: 1\naudiences:\n{many}\n")
    assert any("more than 100,000 definitions" in line for line in found)
