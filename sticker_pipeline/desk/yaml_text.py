"""Edits of a YAML text; all other letters stay.

Libraries that write a parsed text again move comments from before a key to behind the key above it. Here each edit
is parsed and compared with the value that it should give; a text that gives another is refused.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sticker_pipeline.core.files.limited_files import LimitedFileError, parse_yaml

Path = Sequence[str]
_BEHIND = re.compile(r" *,? ?")  # an entry of a flow value


class YamlEditError(ValueError):
    """A text that cannot be edited there; the message says why."""


def put(text: str, path: Path, value: Any) -> str:
    """Return `text` with `value` at the keys `path`, which are made where missing.

    A missing key becomes the first of its section, a missing section the last of the file. Raises YamlEditError.
    """
    return _checked(text, _put(text, path, value), path, lambda before: value)


def add(text: str, path: Path, values: Sequence[Any]) -> str:
    """Return `text` with missing `values` appended to the list at `path`.

    Raises YamlEditError.
    """
    known = _plain(text, path) or []
    new = [value for value in dict.fromkeys(values) if value not in known]
    return _checked(text, _add(text, path, new), path, lambda before: [*known, *new]) if new else text


def remove(text: str, path: Path, values: Sequence[Any]) -> str:
    """Return `text` without `values` in the list or mapping at `path`. Raises YamlEditError."""
    known = _plain(text, path) or []
    gone = [value for value in values if value in known]
    if not gone:
        return text
    if isinstance(known, dict):
        left: Any = {key: value for key, value in known.items() if key not in gone}
    else:
        left = [value for value in known if value not in gone]
    return _checked(text, _remove(text, path, gone), path, lambda before: left)


def _checked(text: str, new: str, path: Path, wanted: Callable[[Any], Any]) -> str:
    """Return `new` if its data is as wanted.

    That is the data of `text` with `wanted` at `path`. Raises YamlEditError.
    """
    data = _unshared(parse_yaml(text))
    place = data
    for key in path[:-1]:
        if not isinstance(place.get(key), dict):
            place[key] = {}
        place = place[key]
    place[path[-1]] = wanted(place.get(path[-1]))
    try:
        found = parse_yaml(new)
    except LimitedFileError as error:
        raise _cannot(path) from error
    if found != data:
        raise _cannot(path)
    return new


def _unshared(value: Any) -> Any:
    """Copy `value`; parts that aliases share become separate."""
    if isinstance(value, dict):
        return {key: _unshared(content) for key, content in value.items()}
    return [_unshared(content) for content in value] if isinstance(value, list) else value


def _cannot(path: Path) -> YamlEditError:
    return YamlEditError(f"{'.'.join(path)} cannot be changed where it stands")


def _plain(text: str, path: Path) -> Any:
    value: Any = parse_yaml(text)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _root(text: str) -> MappingNode:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, MappingNode) or root.flow_style:
        raise YamlEditError("its keys do not stand on lines of their own")
    return root


def _value(root: MappingNode, path: Path) -> Node | None:
    """Return the node at `path`, None if there is none."""
    node: Node | None = root
    for key in path:
        pairs = node.value if isinstance(node, MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    return node


def _put(text: str, path: Path, value: Any) -> str:
    root = _root(text)
    if _value(root, path) is not None:
        return _filled(text, root, path, _flow(value))
    known = max((depth for depth in range(len(path)) if _value(root, path[:depth]) is not None), default=0)
    for key in reversed(path[known + 1 :]):
        value = {key: value}
    return _with_key(text, root, path[:known], path[known], value)


def _with_key(text: str, root: MappingNode, parent: Path, key: str, value: Any) -> str:
    """Insert `key: value` into the mapping at `parent`."""
    if not parent:
        end = "" if text.endswith("\n") or not text else "\n"
        ((inner, content),) = value.items() if isinstance(value, dict) and len(value) == 1 else ((None, value),)
        body = f" {_flow(value)}" if inner is None else f"\n  {_flow(inner)}: {_flow(content)}"
        return f"{text}{end}{_flow(key)}:{body}\n"
    node, entry = _value(root, parent), f"{_flow(key)}: {_flow(value)}"
    if _is_null(node):
        return _filled(text, root, parent, f"{{{entry}}}")
    if not isinstance(node, MappingNode):
        raise _cannot([*parent, key])
    if node.flow_style:
        comma = ", " if node.value else ""
        return _spliced(text, node.start_mark.index + 1, node.start_mark.index + 1, entry + comma)
    first = node.value[0][0].start_mark
    return _spliced(text, first.index, first.index, f"{entry}\n{' ' * first.column}")


def _is_null(node: Node | None) -> bool:
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _filled(text: str, root: MappingNode, path: Path, new: str) -> str:
    """Replace the value at `path` by `new`; comments beside its key stay."""
    node, holder = _value(root, path), _value(root, path[:-1])
    assert node is not None and isinstance(holder, MappingNode)
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style:
        start, end = node.start_mark.index, node.end_mark.index
        return _spliced(text, start, end, new if end > start else f" {new}")
    key = next(name for name, value in holder.value if value is node)
    colon = text.index(":", key.end_mark.index) + 1
    begin = max(text.rfind("\n", 0, node.start_mark.index), colon)
    return text[:colon] + f" {new}" + text[colon:begin] + text[_end_of_line(text, _end_of_block(node)) :]


def _end_of_block(node: MappingNode | SequenceNode) -> int:
    """Return the end of the block's last value, before comments."""
    last: Node = node
    while isinstance(last, MappingNode | SequenceNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, MappingNode) else last.value[-1]
    return last.end_mark.index


def _add(text: str, path: Path, new: Sequence[Any]) -> str:
    root = _root(text)
    node = _value(root, path)
    if node is None or _is_null(node):
        return _put(text, path, list(new))
    if not isinstance(node, SequenceNode):
        raise _cannot(path)
    if not node.value:
        return _filled(text, root, path, _flow(list(new)))
    last = node.value[-1].end_mark.index
    if node.flow_style:
        return _spliced(text, last, last, "".join(f", {_flow(value)}" for value in new))
    indent, end = " " * node.start_mark.column, _end_of_line(text, last)
    return _spliced(text, end, end, "".join(f"\n{indent}- {_flow(value)}" for value in new))


def _remove(text: str, path: Path, gone: Sequence[Any]) -> str:
    root = _root(text)
    node = _value(root, path)
    assert isinstance(node, MappingNode | SequenceNode)
    pairs = [entry if isinstance(entry, tuple) else (entry, entry) for entry in node.value]
    places = [(key.start_mark.index, end.end_mark.index) for key, end in pairs]
    out = [place for place, (key, _) in enumerate(pairs) if _scalar(key) in gone]
    if len(out) == len(pairs):
        return _filled(text, root, path, "{}" if isinstance(node, MappingNode) else "[]")
    cuts = _flow_cuts(text, places, out) if node.flow_style else [_line_of(text, *places[place]) for place in out]
    for start, end in reversed(cuts):
        text = _spliced(text, start, end, "")
    return text


def _line_of(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the lines of a block's entry."""
    return text.rfind("\n", 0, start) + 1, min(_end_of_line(text, end) + 1, len(text))


def _flow_cuts(text: str, places: Sequence[tuple[int, int]], out: Sequence[int]) -> list[tuple[int, int]]:
    """Return the parts to cut: entries of a flow value, with commas.

    Comments between them stay.
    """
    last_kept = max(set(range(len(places))) - set(out))
    tail = (places[last_kept][1], places[-1][1])
    is_plain = "\n" not in text[slice(*tail)]
    single = [place for place in out if place < last_kept or not is_plain]
    found = ((places[place][0], _BEHIND.match(text, places[place][1])) for place in single)
    cuts = [(start, behind.end()) for start, behind in found if behind]
    return [*cuts, tail] if is_plain and last_kept + 1 < len(places) else cuts


def _scalar(node: Node) -> Any:
    """Return the value of a text or number; of others their text."""
    return yaml.SafeLoader("").construct_object(node) if isinstance(node, ScalarNode) else str(node.value)


def _flow(value: Any) -> str:
    """Return `value` in one line, as YAML."""
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False
    )
    return text.strip()[1:-1]


def _end_of_line(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


def _spliced(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]
