"""YAML that people write for Rejse, read strictly and with every problem named by its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

BYTES_MAX = 256 * 1024


def load(text: str, problems: list[str]) -> Any:
    """The plain data of a YAML text; what is wrong with it goes to `problems`, and the answer is None."""
    return load_with_lines(text, problems)[0]


def load_with_lines(text: str, problems: list[str]) -> tuple[Any, Mapping[str, int]]:
    """The same, and the line of every place in the data, such as `stages[0].enter.type`."""
    if len(text.encode("utf-8", "surrogatepass")) > BYTES_MAX:
        problems.append(f"is larger than {BYTES_MAX} bytes")
        return None, {}
    try:
        return _loaded(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problems.append(f"{line}{error.problem}")
    except (yaml.YAMLError, RecursionError) as error:
        problems.append(f"is no YAML ({type(error).__name__})")
    except ValueError as error:
        # A scalar that looks like a date or a number, and is none: 2024-13-01.
        problems.append(f"holds a value that can't be read: {error}")
    return None, {}


def _loaded(text: str) -> tuple[Any, Mapping[str, int]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        data = loader.construct_document(node)
        lines: dict[str, int] = {}
        _note_lines(node, "", lines)
        return data, lines
    finally:
        loader.dispose()


def _note_lines(node: yaml.Node, at: str, lines: dict[str, int]) -> None:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inside = f"{at}.{key.value}" if at else key.value
            lines[inside] = key.start_mark.line + 1
            _note_lines(value, inside, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, f"{at}[{index}]", lines)


class _Loader(yaml.SafeLoader):
    """The safe loader, stricter: no aliases, which can make a small file huge; no repeated keys; and the
    booleans of YAML 1.2 alone (section 10.3.2), so that `on` and `no` are words."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own way to say it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is no text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"repeats the key {key.value!r}", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))
