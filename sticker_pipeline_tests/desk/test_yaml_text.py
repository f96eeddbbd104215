"""Edits of YAML: the data changes as asked, and all other lines stay."""

import string

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sticker_pipeline.desk.yaml_text import YamlEditError, add, put, remove

TEXT = """# about the fox
trigger: skv_fox   # made up

groups:
  gifs:
    learned: [a]
  art:
    medium: art  # compared with art

# traits
curation:
  inherent: [orange hair, scarf]  # always
  blacklist:
    - hat        # never
    # and this
    - "red hat"
  # not many
  min_images: 1

benchmark:
  prompts:       # to generate: many
  - smile
  - 'it''s: raining'
"""


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


@pytest.mark.parametrize(
    ("edit", "gone", "new"),
    [
        (lambda t: add(t, ["curation", "blacklist"], ["x: y"]), [], ["    - 'x: y'"]),
        (lambda t: add(t, ["curation", "blacklist"], ["hat"]), [], []),
        (lambda t: remove(t, ["curation", "blacklist"], ["hat"]), ["    - hat        # never"], []),
        (
            lambda t: add(t, ["curation", "inherent"], ["tail"]),
            ["  inherent: [orange hair, scarf]  # always"],
            ["  inherent: [orange hair, scarf, tail]  # always"],
        ),
        (
            lambda t: remove(t, ["curation", "inherent"], ["scarf"]),
            ["  inherent: [orange hair, scarf]  # always"],
            ["  inherent: [orange hair]  # always"],
        ),
        (lambda t: put(t, ["groups", "art", "share"], 0.5), [], ["    share: 0.5"]),
        (lambda t: put(t, ["curation", "weights", "smile"], 1.2), [], ["  weights: {smile: 1.2}"]),
        (lambda t: add(t, ["media", "exclude"], ["gifs/a.gif"]), [], ["media:", "  exclude: [gifs/a.gif]"]),
        (lambda t: add(t, ["benchmark", "prompts"], ["wave"]), [], ["  - wave"]),
        (
            lambda t: remove(t, ["benchmark", "prompts"], ["smile", "it's: raining"]),
            ["  prompts:       # to generate: many", "  - smile", "  - 'it''s: raining'"],
            ["  prompts: []       # to generate: many"],
        ),
    ],
)
def test_only_the_lines_of_the_value_change(edit, gone, new) -> None:
    assert changed_lines(TEXT, edit(TEXT)) == (gone, new)


entries = st.text(string.ascii_letters + " :#'\"-[]{},&*!|>%@é", min_size=1, max_size=12).filter(lambda t: t.strip())
forms = st.sampled_from(["flow", "block", "indented", "absent", "null", "section null", "no section", "flow section"])


def flow_of(value: list[str]) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).strip()


def text_with(form: str, known: list[str], key: str = "list") -> str:
    flow = flow_of(known)
    lines = [
        f"- {yaml.safe_dump([entry], default_flow_style=True, width=10_000, allow_unicode=True).strip()[1:-1]}"
        for entry in known
    ]
    body = {
        "flow": f"section:\n  # why\n  {key}: {flow} # beside\n  last: 1\n",
        "block": f"section:\n  {key}: # beside\n" + "".join(f"  {line}\n" for line in lines) + "  last: 1\n",
        "indented": f"section:\n  {key}:\n"
        + "".join(f"      {line} # beside\n" for line in lines)
        + "  # why\n  last: 1\n",
        "absent": "section:\n  # why\n  last: 1\n",
        "null": f"section:\n  {key}: # beside\n  last: 1\n",
        "section null": "section:  # beside\n",
        "no section": "",
        "flow section": f"section: {{last: 1, {key}: {flow}}}\n" if known else "section: {last: 1}\n",
    }[form]
    return f"# first\nbefore: 1\n{body}# behind\nafter: 2\n"


@settings(deadline=None)
@given(
    forms, st.lists(entries, max_size=4, unique=True), st.lists(entries, min_size=1, max_size=3, unique=True), st.data()
)
def test_lists_in_any_form(form: str, known: list[str], new: list[str], data) -> None:
    known = known if form in ("flow", "block", "indented", "flow section") else []
    if form in ("block", "indented") and not known:
        form = "null"
    text = text_with(form, known)
    longer = add(text, ["section", "list"], new)
    wanted = [*known, *[entry for entry in new if entry not in known]]
    assert yaml.safe_load(longer)["section"]["list"] == wanted
    assert longer.count("#") >= text.count("#")
    gone = data.draw(st.lists(st.sampled_from(wanted), unique=True))
    shorter = remove(longer, ["section", "list"], gone)
    found = yaml.safe_load(shorter)
    assert found["section"]["list"] == [entry for entry in wanted if entry not in gone]
    assert (found["before"], found["after"]) == (1, 2)
    assert "# behind\nafter: 2\n" in shorter or "# behind\nafter: 2" in shorter


@settings(deadline=None)
@given(st.sampled_from(["{}", "{a: 1}", "\n    a: 1 # beside\n    # why\n    b: 2", ""]), entries, st.integers(0, 9))
def test_mappings_in_any_form(stated: str, key: str, value: int) -> None:
    text = f"section:\n  map: {stated}\n  last: 1\n"
    known = yaml.safe_load(text)["section"]["map"] or {}
    new = put(text, ["section", "map", key], value)
    assert yaml.safe_load(new)["section"] == {"map": {**known, key: value}, "last": 1}
    assert yaml.safe_load(remove(new, ["section", "map"], [key]))["section"]["map"] == {
        k: v for k, v in known.items() if k != key
    }


def test_what_cannot_be_edited_is_refused() -> None:
    with pytest.raises(YamlEditError, match="lines of their own"):
        add("{trigger: a}", ["section", "list"], ["b"])
    with pytest.raises(YamlEditError, match=r"section\.list"):
        add("section:\n  list: word\n", ["section", "list"], ["b"])
    with pytest.raises(YamlEditError, match=r"section\.list"):  # an anchor: the other place would change too
        add("section: &a\n  list: [x]\nother: *a\n", ["section", "list"], ["b"])


def test_comments_between_the_entries_of_a_flow_list_stay() -> None:
    text = "section:\n  list: [\n    aa, # why aa\n    bb # why bb\n  ]\n"
    assert remove(text, ["section", "list"], ["bb"]) == "section:\n  list: [\n    aa, # why aa\n    # why bb\n  ]\n"
    assert remove(text, ["section", "list"], ["aa"]) == "section:\n  list: [\n    # why aa\n    bb # why bb\n  ]\n"
    assert remove("s: {l: [a, b, c, d]}\nx: 1\n", ["s", "l"], ["b", "d"]) == "s: {l: [a, c]}\nx: 1\n"
