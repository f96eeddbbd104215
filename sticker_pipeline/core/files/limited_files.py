"""Parsing of untrusted YAML, JSON and TOML, with bounded memory and time."""

import json
import math
import tomllib
from collections.abc import Iterable
from typing import Any, ClassVar

import yaml

from sticker_pipeline.core.texts import UserError, quoted, shortened

MOST_BYTES = 256 * 1024  # of one file; people's have a few thousand
MOST_DEPTH = 32  # levels of lists and mappings
MOST_VALUES = 20_000  # with repetitions by aliases; keys count too
MOST_DIGITS = 100  # of a number
MOST_DOTS = 200  # in a line of TOML: tomllib stores every prefix of a dotted key

# Useless here: bytes are not text, sets have no order.
_REFUSED_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("binary", "omap", "pairs", "set"))
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_KINDS = {"int": "whole number", "float": "number", "bool": "yes or no", "timestamp": "date"}
_MERGE = "tag:yaml.org,2002:merge"
_TOO_DEEP = f"lists and mappings lie more than {MOST_DEPTH} deep in each other"
_TOO_MANY = f"there are more than {MOST_VALUES:,} values, with those that aliases repeat"


class LimitedFileError(UserError):
    """A refused file.

    The message has place and reason, no file name or full stop.
    """


def parse_yaml(text: str) -> Any:
    """Parse one YAML document of plain values. Raises LimitedFileError with the line."""
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise LimitedFileError(_sentence(error)) from error
    except (ValueError, ArithmeticError) as error:  # PyYAML's scanner: an escape of an invalid letter
        where = f"line {loader.line + 1}: " if loader else ""
        raise LimitedFileError(f"{where}it holds an invalid number or escape") from error
    finally:
        if loader is not None:
            loader.dispose()


def parse_json(text: str) -> Any:
    """Parse JSON. Raises LimitedFileError, with the line if known."""
    try:
        data = json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise LimitedFileError(str(error)) from error
    except RecursionError as error:
        raise LimitedFileError(_TOO_DEEP) from error
    _check_size(data)
    return data


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML. Raises LimitedFileError, with the line if known."""
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise LimitedFileError(f"a line has more than {MOST_DOTS} dots")
    try:
        data = tomllib.loads(text, parse_float=_finite)
    except LimitedFileError:
        raise
    except RecursionError as error:
        raise LimitedFileError(_TOO_DEEP) from error
    except ValueError as error:  # tomllib's, also for invalid numbers and dates
        raise LimitedFileError(shortened(str(error))) from error
    _check_size(data)
    return data


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise LimitedFileError(f"{shortened(text, 20)} is a number of more than {MOST_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise LimitedFileError(f"{shortened(text, 20)} is no finite number")
    return number


def _no_number(text: str) -> Any:
    raise LimitedFileError(f"{text} is no number of JSON")


def _check_size(data: Any) -> None:
    level, count = [data], 0
    for _ in range(MOST_DEPTH + 1):
        count += len(level)
        if count > MOST_VALUES:
            raise LimitedFileError(f"there are more than {MOST_VALUES:,} values")
        if any(isinstance(value, int) and abs(value) >= 10**MOST_DIGITS for value in level):
            raise LimitedFileError(f"there is a number of more than {MOST_DIGITS} digits")
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise LimitedFileError(_TOO_DEEP)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else []


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, refusing while it reads, before construction."""

    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: make for tag, make in yaml.SafeLoader.yaml_constructors.items() if tag not in _REFUSED_TAGS
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.deepest = self.values = 0
        self.measured: dict[int, tuple[int, int]] = {}  # node id -> its values and depth, with aliases

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self.measured:
                raise _refusal("an alias lies inside the value that it repeats", mark)
            values, depth = self.measured[id(node)]
            self._count(values, self.depth + depth, mark)
            return node
        values_before, deepest_before = self.values, self.deepest
        self.depth, self.deepest = self.depth + 1, self.depth + 1
        self._count(1, self.depth, mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        self.measured[id(node)] = self.values - values_before, self.deepest - self.depth
        self.deepest = max(self.deepest, deepest_before)
        return node

    def _count(self, values: int, depth: int, mark: yaml.Mark | None) -> None:
        self.values, self.deepest = self.values + values, max(self.deepest, depth)
        if self.deepest > MOST_DEPTH:
            raise _refusal(_TOO_DEEP, mark)
        if self.values > MOST_VALUES:
            raise _refusal(_TOO_MANY, mark)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping. Raises YAMLError for a repeated key."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE else None
            if name in seen:
                raise _refusal(f"the key {quoted(key.value, 60)} occurs twice: keep one", key.start_mark)
            if name is not None:
                seen.add(name)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value. Raises YAMLError for an invalid number, date or word."""
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        kind = node.tag.rpartition(":")[2]
        if node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            raise _refusal(
                f"{shortened(node.value, 20)} is a number of more than {MOST_DIGITS} digits", node.start_mark
            )
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            what = f"{quoted(node.value, 60)} is no {_KINDS.get(kind, kind)}: put it into quotes if it is text"
            raise _refusal(what, node.start_mark) from error


def _refusal(problem: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _sentence(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return shortened(" ".join(str(error).split()), 200)
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + shortened(error.problem or error.context or "it cannot be read", 200)
