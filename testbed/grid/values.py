"""YAML text to plain values and the place of each: one pass over the parser's events, with limits.

YAML 1.2 through ruamel's parser; the rest is here, so that every mistake has a place: unknown tags, numbers that are
none or too large, a key given twice, an alias inside of what it names, merge keys (`<<`, of one mapping or a list, the
keys beside it first). Whatever a text of a few lines can grow into stays below `MOST` values and `DEPTH` levels.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from testbed.errors import Problem, UsageError
from testbed.parameters import short

Where: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

#: Values that a text may hold, also after its aliases are written out; levels of nesting; characters of a text.
MOST: Final = 10_000
DEPTH: Final = 64
LONGEST: Final = 500_000
#: Digits of an integer: those of 64 bits.
_DIGITS: Final = 19

_INT = re.compile(r"[-+]?(0x[0-9a-fA-F]+|0o[0-7]+|[0-9]+)$")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_DIRECTIVE = re.compile(r"([ \t]*(#[^\r\n]*)?(\r\n|\r|\n))*%")
_BREAK = re.compile(r"\r\n|\r|\n")
_CORE = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null")


def spell(where: Where) -> str:
    """A path as people write it.

    >>> spell(("conditions", 1, "eps"))
    'conditions[1].eps'
    """
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text if len(text) <= 200 else text[:197] + "..."


@dataclass
class Node:
    """A value as written. `plain`: a scalar without quotes; `tag`: the one in front of it; an alias has one item."""

    kind: Literal["map", "seq", "scalar", "alias"]
    place: Place
    tag: str | None
    text: str = ""
    plain: bool = False
    items: list[Node] = field(default_factory=list)
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    open: bool = True

    @property
    def target(self) -> Node:
        """What an alias names; any other node itself."""
        return self.items[0] if self.kind == "alias" else self


def load(text: str, file: str) -> tuple[Any, dict[Where, Place]]:
    """The value of a text and the 1-based (line, column) of every path; UsageError with every problem found.

    An empty text is None.
    """
    values = Values(file, text)
    root = values.compose()
    values.count = 0
    value = None if root is None else values.construct(root, ())
    if values.problems:
        raise UsageError(values.problems)
    return value, values.positions


class Values:
    """One text being read."""

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.starts = [0, *(found.end() for found in _BREAK.finditer(text))]
        self.positions: dict[Where, Place] = {}
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node] = {}
        self.count = 0

    def place(self, index: int) -> Place:
        """Line and column of a character; lines end where an editor ends them."""
        line = bisect_right(self.starts, index)
        return line, index - self.starts[line - 1] + 1

    def fail(self, place: Place, where: Where, message: str) -> None:
        self.problems.append(Problem(self.file, *place, spell(where), message))

    def fatal(self, place: Place, message: str) -> UsageError:
        return UsageError([*self.problems, Problem(self.file, *place, "", message)])

    def spend(self, place: Place) -> None:
        """Count a value."""
        self.count += 1
        if self.count > MOST:
            raise self.fatal(place, f"more than {MOST:,} values, with all aliases written out")

    def events(self) -> Iterator[Any]:
        """The parser's events; its errors are problems with a place."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        if len(self.text) > LONGEST:
            raise self.fatal((1, 1), f"a text of {len(self.text):,} characters; at most {LONGEST:,} are read")
        if (odd := _CONTROL.search(self.text)) is not None:
            raise self.fatal(self.place(odd.start()), f"not YAML: the control character U+{ord(odd[0]):04X}")
        if (directive := _DIRECTIVE.match(self.text)) is not None:
            raise self.fatal(self.place(directive.end() - 1), "expected YAML 1.2: leave out the directive %")
        yaml = YAML(typ="safe", pure=True)
        _, parser = yaml.get_constructor_parser(self.text)
        try:
            while parser.check_event():
                yield parser.get_event()
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self.place(mark.index) if mark else (1, 1)
            raise self.fatal(place, f"not YAML: {error.problem or error.context}") from None
        except (YAMLError, ValueError, OverflowError, IndexError) as error:  # such as the escape "\U00110000"
            raise self.fatal(self.place(yaml.reader.index), f"not YAML: {error}") from None

    def compose(self) -> Node | None:
        """The tree of nodes."""
        stack: list[Node] = []
        keys: list[Node | None] = []
        root: Node | None = None
        for event in self.events():
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                self._document(event, root)
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                stack.pop().open = False
                keys.pop()
            elif kind in ("ScalarEvent", "AliasEvent", "MappingStartEvent", "SequenceStartEvent"):
                node = self._node(event, kind)
                if not stack:
                    root = node
                elif stack[-1].kind == "seq":
                    stack[-1].items.append(node)
                elif (key := keys[-1]) is None:
                    keys[-1] = node
                else:
                    stack[-1].pairs.append((key, node))
                    keys[-1] = None
                if kind in ("MappingStartEvent", "SequenceStartEvent"):
                    if len(stack) >= DEPTH:
                        raise self.fatal(node.place, f"more than {DEPTH} levels of nesting")
                    stack.append(node)
                    keys.append(None)
        return root

    def _document(self, event: Any, root: Node | None) -> None:
        place = self.place(event.start_mark.index)
        if root is not None:
            raise self.fatal(place, "not YAML: a second document begins here; expected one in a file")

    def _node(self, event: Any, kind: str) -> Node:
        place = self.place(event.start_mark.index)
        self.spend(place)
        if kind == "AliasEvent":
            found = self.anchors.get(event.anchor)
            if found is None:
                raise self.fatal(place, f"not YAML: no anchor &{event.anchor} stands before this alias")
            if found.open:
                raise self.fatal(place, f"the alias *{event.anchor} stands inside of what it names")
            return Node("alias", place, None, items=[found], open=False)
        tag = None if event.tag is None else str(event.tag)
        if kind == "ScalarEvent":
            node = Node("scalar", place, tag, event.value, event.implicit[0], open=False)
        else:
            node = Node("map" if kind == "MappingStartEvent" else "seq", place, tag)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def construct(self, node: Node, where: Where) -> Any:
        """The plain value of a node; its problems and the places of all paths below are kept."""
        self.positions.setdefault(where, node.place)
        node = node.target
        self.spend(node.place)
        if len(where) > DEPTH:
            raise self.fatal(node.place, f"more than {DEPTH} levels of nesting")
        if node.kind == "scalar":
            return self._scalar(node, where)
        if node.tag not in (None, _CORE + node.kind, "!"):
            self.fail(node.place, where, f"the tag {short_tag(node.tag)} does not go with a {_WORDS[node.kind]}")
        if node.kind == "seq":
            return [self.construct(item, (*where, i)) for i, item in enumerate(node.items)]
        found: dict[str, Any] = {}
        for key, at, value in self.keys(node, where, 0):
            if key in found:
                continue  # a merged key that a nearer one stands before
            self.positions[(*where, key)] = at
            found[key] = self.construct(value, (*where, key))
        return found

    def keys(self, node: Node, where: Where, depth: int) -> Iterator[tuple[str, Place, Node]]:
        """The keys of a mapping, its own before those it merges."""
        first: dict[str, Place] = {}
        merged: list[tuple[Place, Node]] = []
        for written, value in node.pairs:
            key_node = written.target
            if key_node.kind != "scalar":
                self.fail(key_node.place, where, f"expected a word as a key, got a {_WORDS[key_node.kind]}")
            elif key_node.text == "<<" and key_node.plain:
                merged.append((key_node.place, value))
            elif key_node.text in first:
                says = f"key given twice (first on line {first[key_node.text][0]})"
                self.fail(key_node.place, (*where, key_node.text), says)
            elif self._known_tag(key_node, where) and self._printable(key_node, where):
                first[key_node.text] = key_node.place
                yield key_node.text, key_node.place, value
        for place, value in merged:
            yield from self._merge(place, value, where, depth)

    def _merge(self, place: Place, value: Node, where: Where, depth: int) -> Iterator[tuple[str, Place, Node]]:
        target = value.target
        sources = target.items if target.kind == "seq" else [target]
        if depth >= DEPTH:
            raise self.fatal(place, f"more than {DEPTH} merge keys, one inside of the other")
        for source in sources:
            self.spend(place)
            if source.target.kind != "map":
                self.fail(place, (*where, "<<"), "merges a mapping, or a list of mappings")
                return
            yield from self.keys(source.target, where, depth + 1)

    def _known_tag(self, node: Node, where: Where) -> bool:
        name = (node.tag or "!").removeprefix(_CORE)
        if name in ("!", *_SCALARS):
            return True
        self.fail(node.place, where, f"the tag {short_tag(node.tag)} is not known here; leave it out")
        return False

    def _printable(self, node: Node, where: Where) -> bool:
        if (says := unprintable(node.text)) is None:
            return True
        self.fail(node.place, where, says)
        return False

    def _scalar(self, node: Node, where: Where) -> Any:
        if not self._known_tag(node, where) or not self._printable(node, where):
            return None
        name = "str" if node.tag == "!" else (node.tag or "").removeprefix(_CORE)
        try:
            return scalar(name or (implicit(node.text) if node.plain else "str"), node.text)
        except ValueError as error:
            self.fail(node.place, where, str(error))
            return None


_WORDS = {"map": "mapping", "seq": "list", "scalar": "single value"}


def short_tag(tag: str | None) -> str:
    """A tag as it is written.

    >>> short_tag("tag:yaml.org,2002:set"), short_tag("!mine")
    ('!!set', '!mine')
    """
    text = str(tag)
    return f"!!{text.removeprefix(_CORE)}" if text.startswith(_CORE) else text


def implicit(text: str) -> str:
    """What an unquoted word is in YAML 1.2: null, bool, int, float, or else str; 1_000 is a number.

    >>> [implicit(text) for text in ("no", "1e-3", "0x1F", "~", "true", "12:30", ".inf")]
    ['str', 'float', 'int', 'null', 'bool', 'str', 'float']
    """
    if text in ("", "~", "null", "Null", "NULL"):
        return "null"
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return "bool"
    if text.lstrip("-+").lower() in (".inf", ".nan"):
        return "float"
    bare = text.replace("_", "") if text[:1] != "_" else text
    return "int" if _INT.match(bare) else "float" if _FLOAT.match(bare) else "str"


def scalar(kind: str, text: str) -> Any:
    """The value of a word of a kind; ValueError, in words, where it is none or out of range."""
    if kind == "str":
        return text
    found = implicit(text)
    if kind == "null" and found == "null":
        return None
    if kind == "bool" and found == "bool":
        return text.lower() == "true"
    bare = text.replace("_", "")
    if kind == "int" and found == "int":
        return integer(bare)
    if kind == "float" and found in ("int", "float"):
        if text.lstrip("-+").lower() in (".inf", ".nan") or not math.isfinite(number := float(integer_or(bare))):
            raise ValueError(f"expected a finite number, got {short(text)}")
        return number
    raise ValueError(f"expected {_KINDS[kind]}, got {short(text)}")


_KINDS = {"null": "null", "bool": "true or false", "int": "an integer", "float": "a number"}


def integer_or(bare: str) -> int | str:
    """An integer in hexadecimal or octal digits as the number it is; any other number as it is written."""
    return integer(bare) if bare.lstrip("-+")[:2] in ("0x", "0o") else bare


def integer(bare: str) -> int:
    """An integer of at most 64 bits; ValueError otherwise.

    >>> integer("0x1F"), integer("007")
    (31, 7)
    """
    plain = re.sub(r"^([-+]?)0+(?=[0-9])", r"\1", bare)
    if len(plain) > _DIGITS + 6 or abs(found := int(plain, 0)) >= 2**63:
        raise ValueError(f"expected an integer of at most 64 bits, got {short(plain)}")
    return found


def unprintable(text: str) -> str | None:
    """What is wrong with a text that holds a control character or half a surrogate pair, None if it holds none.

    >>> unprintable("a\\0b"), unprintable("two\\nlines")
    ('holds the control character U+0000', None)
    """
    odd = _UNPRINTABLE.search(text)
    return None if odd is None else f"holds the control character U+{ord(odd[0]):04X}"


def plain(value: Any, file: str) -> Any:
    """A copy of a value given in Python, mappings as dict and sequences as list, within the limits of a text.

    UsageError with a path and no line where it is too large or too deep, or holds NaN, infinity or a control character.
    """
    problems: list[Problem] = []
    count = 0

    def copy(item: Any, where: Where) -> Any:
        nonlocal count
        count += 1
        if count > MOST or len(where) > DEPTH:
            says = f"more than {MOST:,} values" if count > MOST else f"more than {DEPTH} levels of nesting"
            raise UsageError([*problems, Problem(file, 0, 0, spell(where[:8]), says)])
        if isinstance(item, Mapping):
            return {str(key): copy(one, (*where, str(key))) for key, one in item.items()}
        if isinstance(item, (list, tuple)):
            return [copy(one, (*where, i)) for i, one in enumerate(item)]
        if (odd := _odd(item)) is not None:
            problems.append(Problem(file, 0, 0, spell(where), odd))
        return item

    copied = copy(value, ())
    if problems:
        raise UsageError(problems)
    return copied


def _odd(item: Any) -> str | None:
    if isinstance(item, str):
        return unprintable(item)
    if isinstance(item, float) and not math.isfinite(item):
        return f"expected a finite number, got {item!r}"
    if isinstance(item, int) and abs(item) >= 2**63:
        return f"expected an integer of at most 64 bits, got {short(item)}"
    return None
