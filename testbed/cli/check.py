"""`testbed check`: the contract tests of the built-ins, on your plug-in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from testbed.errors import UsageError
from testbed.parameters import number


def check(
    ref: Annotated[str, typer.Argument(help="./my_attack.py:shrink, pkg.mod:Shrink, or an installed name.")],
    kind: Annotated[
        str | None, typer.Option(help="attack, shift, calibrator or detector, where it cannot be told.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", help="A parameter: steps=20; also norm, eps.")
    ] = None,
) -> None:
    """Run the contract tests of the built-ins on your plug-in; exit 1 where it breaks one."""
    from pydantic import ValidationError

    from testbed.contracts import check as ask
    from testbed.contracts import kind_of

    found = kind or kind_of(ref)
    try:
        findings = ask(found, ref, **parameters(param or []))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{found} {ref!r}: {wrong}; give it with -p name=value") from None
    print(f"{found} {ref}")
    told: set[str] = set()
    for finding in findings:
        print(f"  {'ok  ' if finding.holds else 'FAIL'}  {finding.question}")
        if not finding.holds:
            print(f"        {finding.detail if finding.detail not in told else 'as above'}")
            told.add(finding.detail)
    broken = sum(not finding.holds for finding in findings)
    print(f"{len(findings) - broken} of {len(findings)} hold")
    if broken:
        raise typer.Exit(1)


def parameters(given: list[str]) -> dict[str, Any]:
    """`name=value` pairs with values typed as YAML would type them.

    >>> parameters(["steps=20", "eps=8/255", "norm=l2", "restarts=true"])
    {'steps': 20, 'eps': 0.03137254901960784, 'norm': 'l2', 'restarts': True}
    """
    from testbed.grid.reader import read_text

    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"-p {text!r}: expected name=value, for example -p steps=20")
        found[name.strip()] = number(read_text(value, f"-p {text}").value)
    return found
