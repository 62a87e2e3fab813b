"""Pieces of llama.cpp's grammars (GBNF): literals, numbers between bounds, JSON texts by length or regular expression.

What a bound or a pattern allows may be more than the grammar does, never less: 0.30 for 0.3 is left out where it costs
a rule, but nothing is written that a validator would refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

MOST_DIGITS = 15  # of a number, which a double holds exactly
SCALE = 3  # decimals of a number that has to be more, or less, than a bound
MOST_REPETITIONS = 2000  # llama.cpp's MAX_REPETITION_THRESHOLD
LONGEST_PATTERN = 512
LAST_CHARACTER = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)
ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}  # how JSON writes them
PLAIN = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E), (0x80, 0xD7FF), (0xE000, LAST_CHARACTER))  # in a JSON text
CLASSES = {
    "CATEGORY_DIGIT": ((0x30, 0x39),),
    "CATEGORY_WORD": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "CATEGORY_SPACE": ((0x09, 0x0A), (0x0D, 0x0D), (0x20, 0x20)),
}
ANY = ((0, 0x09), (0x0B, 0x0C), (0x0E, LAST_CHARACTER))  # what a dot stands for

Ranges = Sequence[tuple[int, int]]


class NotPossibleError(Exception):
    """What no grammar of ours can say; the words go on from the keyword's name."""


def literal(text: str) -> str:
    """Raises NotPossibleError for half a surrogate pair."""
    if any(SURROGATES[0] <= ord(char) <= SURROGATES[1] for char in text):
        raise NotPossibleError("holds half a surrogate pair")
    if "\0" in text:
        raise NotPossibleError("holds a NUL")
    return '"' + "".join(ESCAPED.get(char, char) for char in text) + '"'


def repeated(rule: str, least: int, most: int | None) -> str:
    """Raises NotPossibleError for more than llama.cpp repeats."""
    if max(least, most or 0) > MOST_REPETITIONS:
        raise NotPossibleError(f"is {max(least, most or 0):,}; at most {MOST_REPETITIONS:,} is possible")
    return f"({rule}){{{least},{'' if most is None else most}}}"


def one_of(rules: Iterable[str]) -> str:
    return "(" + " | ".join(rules) + ")"


def integer(low: int | None, high: int | None) -> str:
    """A whole number within bounds. Raises NotPossibleError if there is none."""
    return _signed(low, high, _whole)


def number(low: Decimal | None, high: Decimal | None, *, over: bool, under: bool) -> str:
    """A decimal number; ``over`` and ``under``: the bounds themselves are left out. Raises NotPossibleError."""
    bounds = [bound for bound in (low, high) if bound is not None]
    scale = max([SCALE, *(max(0, -int(bound.normalize().as_tuple().exponent)) for bound in bounds)])
    if scale > MOST_DIGITS or any(abs(bound) >= 10**MOST_DIGITS for bound in bounds):
        raise NotPossibleError(f"has more than {MOST_DIGITS} digits")
    least = None if low is None else int(low.scaleb(scale)) + over
    most = None if high is None else int(high.scaleb(scale)) - under
    return _signed(least, most, lambda low, high: _decimal(low, high, scale))


def _signed(low: int | None, high: int | None, unsigned: Any) -> str:
    if low is not None and high is not None and low > high:
        raise NotPossibleError("leaves no number")
    if any(bound is not None and abs(bound) >= 10 ** (2 * MOST_DIGITS) for bound in (low, high)):
        raise NotPossibleError(f"has more than {MOST_DIGITS} digits")
    rules = []
    if low is None or low < 0:
        most = None if low is None else -low
        rules.append('"-" ' + unsigned(max(1, -high) if high is not None else 1, most))
    if high is None or high >= 0:
        rules.append(unsigned(max(low or 0, 0), high))
    return one_of(rules)


def _whole(low: int, high: int | None) -> str:
    """Whole numbers from 0 up, without zeros in front."""
    last = len(str(low)) if high is None else len(str(high))
    rules = []
    for length in range(len(str(low)), last + 1):
        least, most = max(low, 10 ** (length - 1) if length > 1 else 0), 10**length - 1
        most = most if high is None else min(high, most)
        rules.append(_between(str(least), str(most)))
    if high is None:
        rules.append(f"[1-9] [0-9]{{{last},{max(last, MOST_DIGITS - 1)}}}")
    return one_of(rules)


def _decimal(low: int, high: int | None, scale: int) -> str:
    """Numbers from 0 up; the bounds are in units of the last decimal."""
    unit = 10**scale
    first, least = divmod(low, unit)
    if high is None:
        return one_of([*_with_fraction(first, least, unit - 1, scale), _whole(first + 1, None) + _FRACTION])
    last, most = divmod(high, unit)
    if first == last:
        return one_of(_with_fraction(first, least, most, scale))
    rules = [*_with_fraction(first, least, unit - 1, scale), *_with_fraction(last, 0, most, scale)]
    if last - first > 1:
        rules.append(_whole(first + 1, last - 1) + _FRACTION)
    return one_of(rules)


_FRACTION = ' ("." [0-9]{1,6})?'


def _with_fraction(whole: int, least: int, most: int, scale: int) -> list[str]:
    """``whole`` with decimals between two numbers of them, and without any where that is in between."""
    plain = [f'"{whole}"'] if least == 0 else []
    if most == 0:
        return plain
    if least == 0 and most == 10**scale - 1:
        return [f'"{whole}"{_FRACTION}']
    return [*plain, f'"{whole}." ' + _between(f"{least:0{scale}}", f"{most:0{scale}}")]


def _between(low: str, high: str) -> str:
    """Digits between two texts of the same length."""
    count = len(low)
    if low == "0" * count and high == "9" * count:
        return f"[0-9]{{{count}}}"
    if count == 1:
        return f"[{low}-{high}]"
    if low[0] == high[0]:
        return f'"{low[0]}" {_between(low[1:], high[1:])}'
    rules = [
        f'"{low[0]}" {_between(low[1:], "9" * (count - 1))}',
        f'"{high[0]}" {_between("0" * (count - 1), high[1:])}',
    ]
    if int(high[0]) - int(low[0]) > 1:
        rules.append(f"[{int(low[0]) + 1}-{int(high[0]) - 1}] [0-9]{{{count - 1}}}")
    return one_of(rules)


def pattern(text: str) -> str:
    """A JSON text, with its quotes, that the regular expression finds something in. Raises NotPossibleError."""
    from re import _parser  # type: ignore[attr-defined]  # the standard library's own parser: there is no other door

    if len(text) > LONGEST_PATTERN:
        raise NotPossibleError(f"has {len(text):,} characters; at most {LONGEST_PATTERN} are possible")
    try:
        parsed = list(_parser.parse(text))
    except (re.error, RecursionError, OverflowError) as error:
        raise NotPossibleError(f"is no regular expression that can be read ({error})") from error
    names = [(str(operation), str(argument)) for operation, argument in parsed]
    begins, ends = ("AT", "AT_BEGINNING") in names[:1], ("AT", "AT_END") in names[-1:]
    inner = _sequence(parsed[begins : len(parsed) - ends])
    return f'"\\"" {"" if begins else "char*"} {inner} {"" if ends else "char*"} "\\""'


def _sequence(parsed: Iterable[tuple[Any, Any]]) -> str:
    return " ".join(_item(str(operation), argument) for operation, argument in parsed) or '""'


def _item(operation: str, argument: Any) -> str:
    match operation:
        case "LITERAL":
            return _characters([(argument, argument)])
        case "NOT_LITERAL":
            return _characters(_without([(argument, argument)]))
        case "ANY":
            return _characters(ANY)
        case "IN":
            return _characters(_members(argument))
        case "BRANCH":
            return one_of(_sequence(branch) for branch in argument[1])
        case "SUBPATTERN":
            return f"({_sequence(argument[3])})"
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, inner = argument
            unlimited = str(most) == "MAXREPEAT"
            return repeated(_sequence(inner), least, None if unlimited else most)
    raise NotPossibleError(f"uses {operation.lower()}, which is not possible")


def _members(argument: Sequence[tuple[Any, Any]]) -> Ranges:
    ranges: list[tuple[int, int]] = []
    negated = False
    for operation, value in argument:
        match str(operation):
            case "NEGATE":
                negated = True
            case "LITERAL":
                ranges.append((value, value))
            case "RANGE":
                ranges.append(value)
            case _:
                ranges += _category(str(value))
    return _without(ranges) if negated else ranges


def _category(name: str) -> Ranges:
    if name in CLASSES:
        return CLASSES[name]
    return _without(CLASSES[name.replace("_NOT_", "_")])


def _without(ranges: Ranges) -> Ranges:
    """All other characters."""
    rest, begin = [], 0
    for low, high in sorted(ranges):
        if low > begin:
            rest.append((begin, low - 1))
        begin = max(begin, high + 1)
    return [*rest, (begin, LAST_CHARACTER)] if begin <= LAST_CHARACTER else rest


def _characters(ranges: Ranges) -> str:
    """One character, as JSON writes it. Raises NotPossibleError where JSON can write none of them."""
    shown = [
        (max(low, plain_low), min(high, plain_high))
        for low, high in ranges
        for plain_low, plain_high in PLAIN
        if max(low, plain_low) <= min(high, plain_high)
    ]
    rules = ["[" + "".join(f"{_code(low)}-{_code(high)}" for low, high in shown) + "]"] if shown else []
    for char, escaped in ESCAPED.items():
        if any(low <= ord(char) <= high for low, high in ranges):
            rules.append(literal(escaped))
    if not rules:
        raise NotPossibleError("needs a character that can't be written")
    return one_of(rules) if len(rules) > 1 else rules[0]


def _code(character: int) -> str:
    return f"\\U{character:08X}"
