"""Sources as they are defined (WS-10 to WS-12); what becomes of their calls stands in collect."""

from workspace.definitions import from_normal, load, normal_form

WEB = "version: 1\nsources:\n  web: {type: website, write_keys: [wk_web_0001, wk_web_0002]}\n"
APP = "version: 1\nsources:\n  app: {type: mobile, write_keys: [wk_app_0001], enabled: false}\n"


def loaded(*texts: str):
    return load([(f"{n}.yaml", text.encode()) for n, text in enumerate(texts)])


def test_workspace_WS10_a_source_is_known_by_its_key_and_may_have_ten_write_keys():
    ten = ", ".join(f"wk_web_{n:04}" for n in range(10))
    definitions, problems = loaded(WEB.replace("wk_web_0001, wk_web_0002", ten))
    assert problems == []
    assert len(definitions.sources["web"].write_keys) == 10
    _, problems = loaded(WEB.replace("wk_web_0001, wk_web_0002", ten + ", wk_web_0010"))
    assert "10 entries at most" in str(problems[0])


def test_workspace_WS10_a_write_key_belongs_to_one_source():
    _, problems = loaded(WEB, APP.replace("wk_app_0001", "wk_web_0002"))
    assert [str(problem) for problem in problems] == [
        '0.yaml:3:50: sources.web.write_keys[1]: this write key belongs to the source "app"; '
        "give each source its own"
    ]


def test_workspace_WS10_the_type_decides_the_channel():
    channels = {}
    for kind in ("website", "mobile", "server", "cloud"):
        definitions, _ = loaded(WEB.replace("website", kind))
        channels[kind] = definitions.sources["web"].channel
    assert channels == {
        "website": "browser", "mobile": "mobile", "server": "server", "cloud": "server",
    }  # fmt: skip


def test_workspace_WS11_a_disabled_source_stays_defined():
    definitions, _ = loaded(WEB, APP)
    assert not definitions.sources["app"].enabled
    assert definitions.sources["web"].enabled


def test_workspace_WS12_a_source_that_is_removed_is_gone_from_the_normal_form():
    definitions, _ = loaded(WEB)
    assert list(from_normal(normal_form(definitions)).sources) == ["web"]
