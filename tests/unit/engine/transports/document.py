"""The facts of an API document: its classes, signatures, properties, attributes and events.

    python -m tests.unit.engine.transports.document DOCUMENT > documented/NAME.json

The document is generated text: one line for each class, method, property and attribute.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

CLASS = re.compile(r"class (?P<module>[\w.]+)\.(?P<name>\w+)\((?P<signature>.*)\)")
PROPERTY = re.compile(r"property (?P<name>\w+): (?P<type>.+)")
METHOD = re.compile(r"(?P<async>async )?(?P<name>\w+)\((?P<signature>.*)\) ?(?P<type>[^()]*)")
ATTRIBUTE = re.compile(r"(?P<name>\w+)(: (?P<type>\w.+)| = (?P<value>\{.+\}))")
EVENT = re.compile(r"(?P<name>on_\w+)\((?P<signature>[\w, ]*)\):.*")
SOURCE = "[source]"


def read(text: str) -> list[dict[str, Any]]:
    """The classes of the document, in its order."""
    classes: list[dict[str, Any]] = []
    bases_follow = events_follow = False
    for line in map(_plain, text.splitlines()):
        if not line:
            continue
        if match := CLASS.fullmatch(line.removesuffix(SOURCE)):
            classes.append(_class(match))
            bases_follow = events_follow = False
        elif classes:
            here = classes[-1]
            if line.startswith("Bases:") or bases_follow:
                bases_follow = not _base(here, line.removeprefix("Bases:").strip())
            elif line.startswith("Event handlers available"):
                events_follow = True
            elif line.startswith("Example"):
                events_follow = False
            elif events_follow and (match := EVENT.fullmatch(line)):
                here["events"][match["name"]] = re.findall(r"\w+", match["signature"])
            else:
                _member(here, line)
    return classes


def _plain(line: str) -> str:
    return line.strip().removeprefix("- ").removeprefix("• ").strip()


def _class(match: re.Match[str]) -> dict[str, Any]:
    return {
        "module": match["module"],
        "name": match["name"],
        "bases": [],
        "parameters": parameters(match["signature"]),
        "methods": [],
        "properties": {},
        "attributes": [],
        "events": {},
    }


def _base(here: dict[str, Any], text: str) -> bool:
    """Take the base from its line; one form of the document runs it into what follows."""
    match = re.match(r"(object|BaseModel|[A-Z]\w*?(?:Params|Transport|Track))", text)
    if match is not None:
        here["bases"].append(match[1])
    return match is not None


def _member(here: dict[str, Any], line: str) -> None:
    if match := PROPERTY.fullmatch(line):
        here["properties"][match["name"]] = match["type"]
    elif line.endswith(SOURCE) and (match := METHOD.fullmatch(line.removesuffix(SOURCE))):
        here["methods"].append(
            {
                "name": match["name"],
                "async": bool(match["async"]),
                "parameters": parameters(match["signature"]),
            }
        )
    elif match := ATTRIBUTE.fullmatch(line):
        here["attributes"].append(match["name"])
    elif line == "Yields:":
        here["methods"][-1]["yields"] = True


def parameters(signature: str) -> list[dict[str, str]]:
    """Name, kind and default (as source) of each parameter."""
    source = signature.replace("~pipecat", "pipecat").replace("<factory>", "FACTORY")
    arguments = ast.parse(f"def f({source}): ...").body[0].args  # type: ignore[attr-defined]
    found: list[dict[str, str]] = []
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for argument, default in zip(positional, defaults, strict=True):
        found.append(_parameter(argument, "positional", default))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append(_parameter(argument, "keyword", default))
    if arguments.kwarg is not None:
        found.append({"name": arguments.kwarg.arg, "kind": "rest"})
    return found


def _parameter(argument: ast.arg, kind: str, default: ast.expr | None) -> dict[str, str]:
    told = {"name": argument.arg, "kind": kind}
    if default is not None:
        told["default"] = ast.unparse(default)
    return told


if __name__ == "__main__":
    json.dump(read(Path(sys.argv[1]).read_text()), sys.stdout, indent=1)
    sys.stdout.write("\n")
