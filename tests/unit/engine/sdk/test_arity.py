"""How many arguments a handler is given."""

from __future__ import annotations

import functools
import sys
from typing import Any

import pytest

from engine.sdk.arity import positional

pytestmark = pytest.mark.unit


class Owner:
    def method(self, one: int, two: int) -> None: ...

    def __call__(self, one: int) -> None: ...


async def three(one: int, two: int, three: int, *, named: int = 0) -> None: ...


def any_number(one: int, *rest: int) -> None: ...


@pytest.mark.parametrize(
    ("handler", "count"),
    [
        (three, 3),
        (functools.partial(three, 1), 2),
        (Owner().method, 2),
        (Owner(), 1),
        (any_number, None),
        (dict[str, int]().update, None),
        (lambda: None, 0),
    ],
)
def test_positional_arguments_are_counted(handler: Any, count: int | None) -> None:
    assert positional(handler) == count


def test_what_is_not_callable_is_a_type_error() -> None:
    not_callable: Any = 5
    with pytest.raises(TypeError):
        positional(not_callable)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are read at once")
def test_annotations_may_name_what_only_type_checkers_import() -> None:
    names: dict[str, Any] = {}
    source = "def handler(session: OnlyForTypeCheckers, reason: str) -> None: ..."
    exec(compile(source, "handler", "exec", dont_inherit=True), names)  # noqa: S102
    assert positional(names["handler"]) == 2
