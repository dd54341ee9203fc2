"""A corpus of broken files: each gives exactly one problem, at the marked place, with a mend.

`«` stands before what is wrong and is no part of the file.
"""

import pytest

from workspace.definitions import load

BASE = """\
version: 1
sources:
  web: {type: website, write_keys: [wk_base_web_1]}
destinations:
  webhook: {type: webhook, settings: {url: "https://hooks.example.com/in"}}
computed_traits:
  orders_90d: {type: count, event: Order Completed, window: {within: 90d}}
audiences:
  staff: {where: {trait: {email: {ends_with: "@shop.example"}}}}
"""

SOURCE = "version: 1\nsources:\n  app:\n    type: mobile\n    write_keys: [wk_broken_1]\n"
HOOK = "version: 1\ndestinations:\n  hook:\n    type: webhook\n"
GOOD_URL = "    settings: {url: https://hooks.example.com/x}\n"
TRAIT = "version: 1\ncomputed_traits:\n  orders:\n    type: count\n    event: Order Completed\n"
AUDIENCE = "version: 1\naudiences:\n  buyers:\n"
PERFORMED = "    where: {performed: {event: Order Completed}}\n"

JOURNEY = """\
version: 1
journeys:
  cart:
    entry: {event: Cart Modified, key: cart_id}
    exit_rules: {events: [{event: Order Completed, match_key: cart_id}]}
    steps:
      start:
        hold_until:
          max: 30m
          branches:
            updated: {event: Cart Modified, key: cart_id, restart: true}
          timeout: reminder
      reminder:
        send: {to: [webhook], event: Cart reminder}
        next: pause
      pause:
        delay: {for: 1d}
        next: end
"""


def journey(old: str, new: str) -> str:
    assert JOURNEY.count(old) == 1
    return JOURNEY.replace(old, new)


# fmt: off
CORPUS = [
    # ---- YAML ------------------------------------------------------------------------------------
    ("a tab indents", "version: 1\nsources:\n«\tapp: {}\n", "", "a tab", "indent with spaces"),
    ("a colon in plain text", "version: 1\nworkspace: {}\nsources: a«: b\n", "", "a colon",
     "quotes"),
    ("an at sign begins a value", "version: 1\nworkspace:\n  name: «@home\n", "", "cannot begin",
     "quotes"),
    ("a quote is never closed", "version: 1\nworkspace:\n  name: «'Shop\n", "", "not closed",
     "close it"),
    ("a bracket is never closed", "version: 1\nworkspace:\n  spaces: «[default\n", "",
     "not closed", "[a, b]"),
    ("a brace is never closed", "version: 1\nworkspace: «{name: Shop\n", "", "not closed",
     "{a: 1, b: 2}"),
    ("keys are not lined up", "version: 1\nworkspace:\n  name: Shop\n «slug: shop\n", "",
     "indentation", "line up"),
    ("an anchor", "version: 1\nworkspace: «&all\n  name: Shop\n", "workspace", "anchor", "remove"),
    ("an alias", "version: 1\nworkspace:\n  name: «*all\n", "workspace.name", "alias",
     "write the value out"),
    ("a tag", "version: 1\nworkspace:\n  name: «!!str 5\n", "workspace.name", '"!!str"', "remove"),
    ("a merge key", "version: 1\nworkspace:\n  «<<: {}\n", "workspace", "merge key", "write"),
    ("a key given twice", "version: 1\nworkspace:\n  name: A\n  «name: B\n", "workspace.name",
     "first on line 3", "keep one"),
    ("a key without a value", "version: 1\nworkspace: {name: A, «slug}\n", "workspace.slug",
     "no value", "slug: ..."),
    ("braces without quotes", "version: 1\nworkspace:\n  name: {«{ shop }}\n", "workspace.name",
     "a key must be text", "quotes"),
    ("two documents", "version: 1\n«---\nversion: 1\n", "", "one document", "---"),
    ("a number beyond 64 bits", f"version: 1\nworkspace:\n  name: «{2**70}\n", "workspace.name",
     "64 bits", "quotes"),
    ("not a number", "version: 1\nworkspace:\n  name: «.nan\n", "workspace.name", ".nan", "number"),
    ("an unknown escape", 'version: 1\nworkspace:\n  name: "a«\\q"\n', "", "escape", "backslash"),
    ("YAML 1.1 is asked for", "«%YAML 1.1\n---\nversion: 1\n", "", "YAML 1.2", "%YAML"),
    # ---- the file --------------------------------------------------------------------------------
    ("an empty file", "«", "", "is empty", "version: 1"),
    ("a file of comments", "«# nothing yet\n", "", "is empty", "version: 1"),
    ("a list", "«- version\n", "", "must be a map, not a list", "version: 1"),
    ("no version", "«workspace: {name: Shop}\n", "", '"version" is missing', "version: 1"),
    ("version 2", "version: «2\n", "version", "no version that is known", "version: 1"),
    ("version as text", 'version: «"1"\n', "version", "no version that is known", "version: 1"),
    ("version true", "version: «true\n", "version", "no version that is known", "version: 1"),
    ("an unknown top key", "version: 1\n«audience: {}\n", "audience", "unknown", '"audiences"'),
    ("a definition without its top key", "version: 1\n«frobnicate: {type: mobile}\n",
     "frobnicate", "unknown", "known here"),
    ("SQL traits", "version: 1\n«sql_traits: {}\n", "sql_traits", "not supported yet", "leave"),
    ("broadcasts", "version: 1\n«broadcasts: {}\n", "broadcasts", "not supported yet", "leave"),
    ("tracking plans", "version: 1\n«tracking_plans: {}\n", "tracking_plans", "not supported yet",
     "leave"),
    ("tests", "version: 1\n«tests: {}\n", "tests", "not supported yet", "leave"),
    ("another space", "version: 1\nspace: «europe\n", "space", "not supported yet", "default"),
    ("a list of sources", "version: 1\nsources: «[web]\n", "sources", "must be a map", "some_key"),
    ("a key with capitals", "version: 1\nsources:\n  «WebShop: {}\n", "sources.WebShop",
     "a-z, 0-9 and _", '"webshop"'),
    ("a key with a hyphen", "version: 1\nsources:\n  «web-shop: {}\n", "sources.web-shop",
     "a-z, 0-9 and _", '"web_shop"'),
    ("a key of 256 characters", f"version: 1\nsources:\n  «{'k' * 256}: {{}}\n",
     f"sources.{'k' * 256}", "256", "255"),
    ("a key of another file", "version: 1\nsources:\n  «web: {}\n", "sources.web",
     "first at base.yaml:3:3", "another key"),
    # ---- workspace -------------------------------------------------------------------------------
    ("a slug with a space", "version: 1\nworkspace: {slug: «Demo shop}\n", "workspace.slug",
     '"Demo shop"', "demo_shop"),
    ("another time zone", "version: 1\nworkspace: {timezone: «Europe/Berlin}\n",
     "workspace.timezone", "not supported yet", "UTC"),
    ("a short dedup window", "version: 1\nworkspace: {dedup_window: «12h}\n",
     "workspace.dedup_window", "too short", "24h"),
    ("a window without a unit", "version: 1\nworkspace: {dedup_window: «24}\n",
     "workspace.dedup_window", "must be text", "24h"),
    ("two spaces", "version: 1\nworkspace: {spaces: «[default, eu]}\n", "workspace.spaces",
     "not supported yet", "[default]"),
    ("a name that is a list", "version: 1\nworkspace: {name: «[Shop]}\n", "workspace.name",
     "must be text, not a list", "Demo shop"),
    # ---- identity --------------------------------------------------------------------------------
    ("a demotion that is none", "version: 1\nidentity: {demotion: «soft}\n", "identity.demotion",
     "not one of", "choose"),
    ("alias merges", "version: 1\nidentity: {alias_merges: «true}\n", "identity.alias_merges",
     "not supported yet", "leave"),
    ("a limit of nothing", "version: 1\nidentity: {types: {email: {limit: «0}}}\n",
     "identity.types.email.limit", "out of range", "at least 1 and at most 1000"),
    ("a limit of 1,001", "version: 1\nidentity: {types: {email: {limit: «1001}}}\n",
     "identity.types.email.limit", "out of range", "at most 1000"),
    ("a period that is none", "version: 1\nidentity: {types: {email: {per: «week}}}\n",
     "identity.types.email.per", "not one of", '"weekly"'),
    ("a limit alone", "version: 1\nidentity: {types: {email: «5}}\n", "identity.types.email",
     "must be a map", "limit"),
    ("a limit of no type", "version: 1\nidentity: {«limit: 5}\n", "identity.limit", "unknown",
     '"types.NAME"'),
    ("a type with capitals", "version: 1\nidentity: {types: {«userId: {limit: 1}}}\n",
     "identity.types.userId", "not allowed", "lower case"),
    ("a look-ahead", 'version: 1\nidentity: {blocked: {all: [{regex: «"(?=a)"}]}}\n',
     "identity.blocked.all[0].regex", "RE2", "syntax"),
    ("exact and regex", "version: 1\nidentity: {blocked: {all: [«{exact: a, regex: b}]}}\n",
     "identity.blocked.all[0]", "exact or regex", "regex"),
    ("a type twice in the order", "version: 1\nidentity: {order: [email, «email]}\n",
     "identity.order[1]", "twice", "remove"),
    # ---- sources ---------------------------------------------------------------------------------
    ("a source without a body", "version: 1\nsources:\n  app:«\n", "sources.app", "no value",
     "write a value"),
    ("no type", "version: 1\nsources:\n  «app: {write_keys: [wk_broken_1]}\n", "sources.app",
     '"type" is missing', "type: website"),
    ("no write keys", "version: 1\nsources:\n  «app: {type: mobile}\n", "sources.app",
     '"write_keys" is missing', "wk_demo_web"),
    ("an unknown type", "version: 1\nsources:\n  app: {type: «web, write_keys: [wk_broken_1]}\n",
     "sources.app.type", "not one of", "website"),
    ("an empty list of write keys", "version: 1\nsources:\n  app: {type: cloud, write_keys: «[]}\n",
     "sources.app.write_keys", "is empty", "at least 1"),
    ("a write key alone", "version: 1\nsources:\n  app: {type: mobile, write_keys: «wk_broken_1}\n",
     "sources.app.write_keys", "must be a list", "[wk_broken_1]"),
    ("a short write key", "version: 1\nsources:\n  app: {type: mobile, write_keys: [«wk_1]}\n",
     "sources.app.write_keys[0]", "right form", "wk_demo_web"),
    ("a write key of another source",
     "version: 1\nsources:\n  z: {type: mobile, write_keys: [«wk_base_web_1]}\n",
     "sources.z.write_keys[0]", 'belongs to the source "web"', "its own"),
    ("a write key twice",
     "version: 1\nsources:\n  app: {type: mobile, write_keys: [wk_broken_1, «wk_broken_1]}\n",
     "sources.app.write_keys[1]", "given twice", "keep one"),
    ("a misspelt key", SOURCE + "    «enviroment: production\n", "sources.app.enviroment",
     "unknown", '"environment"'),
    ("camel case", "version: 1\nsources:\n  app: {type: mobile, «writeKeys: [wk_broken_1]}\n",
     "sources.app.writeKeys", "unknown", '"write_keys"'),
    ("yes is not true", SOURCE + "    enabled: «yes\n", "sources.app.enabled", "true or false",
     "write true or false"),
    ("an unknown space", SOURCE + "    spaces: [«eu]\n", "sources.app.spaces[0]", "no space",
     "default"),
    ("a label that is a number", SOURCE + "    labels: {cost: «12}\n", "sources.app.labels.cost",
     "must be text", '"12"'),
    # ---- destinations ----------------------------------------------------------------------------
    ("no settings", "version: 1\ndestinations:\n  «hook:\n    type: webhook\n",
     "destinations.hook", '"settings" is missing', "settings"),
    ("a type of later", "version: 1\ndestinations:\n  hook:\n    type: «slack\n" + GOOD_URL,
     "destinations.hook.type", "not supported yet", "webhook"),
    ("a type that never was", "version: 1\ndestinations:\n  hook:\n    type: «webhok\n" + GOOD_URL,
     "destinations.hook.type", "not one of", '"webhook"'),
    ("no address", HOOK + "    «settings: {secret: x}\n", "destinations.hook.settings",
     '"url" is missing', "https://"),
    ("a URL of another scheme", HOOK + "    settings: {url: «ftp://hooks.example.com}\n",
     "destinations.hook.settings.url", "http://", "https://"),
    ("a URL outside its settings", HOOK + "    «url: https://x.example/\n    settings:"
     " {url: https://x.example/}\n", "destinations.hook.url", "unknown", '"settings"'),
    ("an unknown source", HOOK + GOOD_URL + "    sources: [«wbe]\n",
     "destinations.hook.sources[0]", 'no source "wbe"', '"web"'),
    ("an unknown call", HOOK + GOOD_URL + "    events: {types: [«tracks]}\n",
     "destinations.hook.events.types[0]", "not one of", '"track"'),
    ("a rate without a unit", HOOK + GOOD_URL + "    rate_limit: «50\n",
     "destinations.hook.rate_limit", "must be a map", "per_second"),
    ("a rate of nothing", HOOK + GOOD_URL + "    rate_limit: {per_second: «0}\n",
     "destinations.hook.rate_limit.per_second", "out of range", "more than 0"),
    ("a time-out in words", HOOK + "    settings: {url: https://x.example/, timeout: «5 sec}\n",
     "destinations.hook.settings.timeout", "right form", "5s"),
    ("a time-out of ten minutes", HOOK + "    settings: {url: https://x.example/, timeout: «10m}\n",
     "destinations.hook.settings.timeout", "too long", "60s"),
    ("a header of ours", HOOK + "    settings: {url: https://x.example/, headers: {Host: «a}}\n",
     "destinations.hook.settings.headers.Host", "set by the platform", "leave it out"),
    ("a header of two lines", HOOK + '    settings: {url: https://x.io/, headers: {A: «"b\\nc"}}\n',
     "destinations.hook.settings.headers.A", "one line", "rename it"),
    ("a variable without a name", HOOK + '    settings: {url: https://x.io/, secret: «"${}"}\n',
     "destinations.hook.settings.secret", "names no variable", "${NAME}"),
    ("id sync", HOOK + GOOD_URL + "    «id_sync: []\n", "destinations.hook.id_sync",
     "not supported yet", "leave"),
    ("consent categories", HOOK + GOOD_URL + "    «consent_categories: [Ads]\n",
     "destinations.hook.consent_categories", "not supported yet", "leave"),
    # ---- computed traits -------------------------------------------------------------------------
    ("an unknown kind of trait",
     "version: 1\ncomputed_traits:\n  orders: {type: «counter, event: Order Completed}\n",
     "computed_traits.orders.type", "not one of", '"count"'),
    ("a sum of nothing", "version: 1\ncomputed_traits:\n  total: «{type: sum, event: Order}\n",
     "computed_traits.total", "property", "property"),
    ("a window without a map", TRAIT + "    window: «90d\n", "computed_traits.orders.window",
     "must be a map", "within"),
    ("a window of sessions", TRAIT + "    window: {«session: 30m}\n",
     "computed_traits.orders.window.session", "not supported yet", "within"),
    ("a window outside window", TRAIT + "    «within: 90d\n", "computed_traits.orders.within",
     "unknown", '"window"'),
    # ---- audiences -------------------------------------------------------------------------------
    ("no condition", AUDIENCE.rstrip().removesuffix("buyers:") + "«buyers: {name: Buyers}\n",
     "audiences.buyers", '"where" is missing', "who belongs to it"),
    ("a condition beside where", AUDIENCE + PERFORMED + "    «performed: {event: X}\n",
     "audiences.buyers.performed", "unknown", '"where"'),
    ("within in the wrong place", AUDIENCE + PERFORMED + "    «within: 7d\n",
     "audiences.buyers.within", "unknown", '"where.performed"'),
    ("a misspelt option", AUDIENCE + "    where: {performed: {event: X, «withn: 7d}}\n",
     "audiences.buyers.where.performed.withn", "unknown", '"within"'),
    ("a window that is a number", AUDIENCE + "    where: {performed: {event: X, within: «7}}\n",
     "audiences.buyers.where.performed.within", "must be text", "7d"),
    ("an event that is a number", AUDIENCE + "    where: {performed: {event: «404}}\n",
     "audiences.buyers.where.performed.event", "must be text", '"404"'),
    ("an unknown operator", AUDIENCE + "    where: {trait: {plan: {«equal: pro}}}\n",
     "audiences.buyers.where.trait.plan.equal", "unknown", '"equals"'),
    ("an unknown audience", AUDIENCE + "    where: {audience: «staf}\n",
     "audiences.buyers.where.audience", 'no audience "staf"', '"staff"'),
    ("an unknown destination", AUDIENCE + PERFORMED + "    destinations: [{to: «webhok}]\n",
     "audiences.buyers.destinations[0].to", 'no destination "webhok"', '"webhook"'),
    ("an unknown source left out",
     AUDIENCE + "    where: {performed: {event: X, exclude_sources: [«wep]}}\n",
     "audiences.buyers.where.performed.exclude_sources[0]", 'no source "wep"', '"web"'),
    ("a funnel", AUDIENCE + "    where: {«funnel: {}}\n", "audiences.buyers.where.funnel",
     "not supported yet", "take it out"),
    ("two conditions in one", AUDIENCE + "    where: «{audience: staff, everyone: true}\n",
     "audiences.buyers.where", "in one condition", "all: or any:"),
    ("an audience of itself", AUDIENCE + "    where: {audience: «buyers}\n",
     "audiences.buyers.where.audience", "cycle", "take"),
    # ---- journeys --------------------------------------------------------------------------------
    ("no entry", journey("cart:\n    entry: {event: Cart Modified, key: cart_id}\n", "«cart:\n"),
     "journeys.cart", '"entry" is missing', "entry"),
    ("a step that is not there", journey("timeout: reminder", "timeout: «remindr"),
     "journeys.cart.steps.start.hold_until.timeout", 'no step "remindr"', "steps are: start"),
    ("no first step", journey("      start:", "      «begin:"),
     "journeys.cart.steps", 'no step "start"', "first step"),
    ("a path that turns back", journey("next: end", "next: «reminder"),
     "journeys.cart.steps.pause.next", "leads back", "no cycles"),
    ("a step to nowhere", journey("        delay: {for: 1d}\n        next: end\n",
                                  "        delay: {for: 1d}\n        «nxt: end\n"),
     "journeys.cart.steps.pause.nxt", "unknown", '"next"'),
    ("a hold of a minute", journey("max: 30m", "max: «1m"),
     "journeys.cart.steps.start.hold_until.max", "5 minutes", "5m"),
    ("a hold without a unit", journey("max: 30m", "max: «30"),
     "journeys.cart.steps.start.hold_until.max", "must be text", "2h"),
    ("a delay of a year", journey("for: 1d", "for: «52w"),
     "journeys.cart.steps.pause.delay.for", "182 days", "182d"),
    ("a delay alone", journey("delay: {for: 1d}", "delay: «1d"),
     "journeys.cart.steps.pause.delay", "must be a map", "for"),
    ("a delay until", journey("delay: {for: 1d}", "delay: {«until: {trait: birthday}}"),
     "journeys.cart.steps.pause.delay.until", "not supported yet", "for:"),
    ("for outside its delay", journey("delay: {for: 1d}", "«for: 1d"),
     "journeys.cart.steps.pause.for", "unknown", '"delay"'),
    ("a step of later", journey("delay: {for: 1d}", "«rate_limit: {at_most: 2, per: 7d}"),
     "journeys.cart.steps.pause.rate_limit", "not supported yet", "hold_until"),
    ("a step that never was", journey("delay: {for: 1d}", "«sleep: {for: 1d}"),
     "journeys.cart.steps.pause.sleep", "unknown", "delay, hold_until"),
    ("a send to nobody", journey("to: [webhook]", "to: [«mailer]"),
     "journeys.cart.steps.reminder.send.to[0]", 'no destination "mailer"', "webhook"),
    ("a send to a text", journey("to: [webhook]", "to: «webhook"),
     "journeys.cart.steps.reminder.send.to", "must be a list", "[webhook]"),
    ("a misspelt entry key", journey("key: cart_id}\n    exit", "«kye: cart_id}\n    exit"),
     "journeys.cart.entry.kye", "unknown", '"key"'),
    ("re-entry that is none", journey("{event: Cart Modified, key: cart_id}\n    exit",
                                      "{event: A, re_enter: «twice, key: cart_id}\n    exit"),
     "journeys.cart.entry.re_enter", "not one of", "choose"),
    ("a holdout", journey("    exit_", "    «holdout: {percent: 5}\n    exit_"),
     "journeys.cart.holdout", "not supported yet", "leave"),
    ("version exclusion", journey("    exit_", "    «version_exclusion: true\n    exit_"),
     "journeys.cart.version_exclusion", "not supported yet", "leave"),
    ("an unknown operator of an entry",
     journey("key: cart_id}\n    exit", "key: cart_id, where: {total: {«above: 5}}}\n    exit"),
     "journeys.cart.entry.where.total.above", "unknown", "exists"),
    ("an audience that is not there",
     journey("key: cart_id}\n    exit", "key: cart_id, audience: «stuff}\n    exit"),
     "journeys.cart.entry.audience", 'no audience "stuff"', '"staff"'),
]
# fmt: on


@pytest.mark.parametrize("case", CORPUS, ids=[case[0].replace(" ", "_") for case in CORPUS])
def test_workspace_WS08_a_broken_file_names_the_place_and_the_mend(case):
    _, marked, key, what, mend = case
    assert marked.count("«") == 1
    before = marked.partition("«")[0]
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
    text = marked.replace("«", "")

    definitions, problems = load([("base.yaml", BASE.encode()), ("broken.yaml", text.encode())])

    assert definitions is None
    assert [str(problem) for problem in problems[1:]] == []
    problem = problems[0]
    assert problem.file == "broken.yaml"
    assert (problem.line, problem.column) == place, str(problem)
    assert problem.key == key
    assert what in problem.what
    assert mend in problem.mend


def test_workspace_WS08_the_corpus_is_large():
    assert len(CORPUS) >= 60


def test_workspace_WS08_the_base_of_the_corpus_is_sound():
    definitions, problems = load([("base.yaml", BASE.encode())])
    assert definitions is not None
    assert problems == []
