"""`model-audit checks`: which checks are installed, and what each says of itself."""

import json
from typing import Annotated, Any

import typer

from audit.commands.options import Json, print_json
from audit.errors import EXIT_CANNOT_SAY_YES, EXIT_OK, ConfigError, nearest


def checks(
    name: Annotated[str | None, typer.Argument(help="A check, to read its text and settings.")] = None,
    as_json: Json = False,
) -> int:
    """List the installed checks, or explain one."""
    from audit.registry import Broken, installed_checks
    from audit.terminal import console, show_list

    found = installed_checks()
    if name is not None and name not in found:
        raise ConfigError(f"'{name}' is not an installed check{nearest(name, found)}.")
    facts = [_check_facts(key, item) for key, item in found.items() if name in (None, key)]
    if as_json:
        print_json(facts)
    elif name is not None:
        _explain(facts[0])
    else:
        rows = [(fact["name"], fact["broken"] or fact["title"], " ".join(fact["fits"])) for fact in facts]
        show_list(rows, ("check", "what it answers", "fits"), console())
    return EXIT_CANNOT_SAY_YES if any(isinstance(item, Broken) for item in found.values()) else EXIT_OK


def _check_facts(name: str, item: Any) -> dict[str, Any]:
    from audit.registry import Broken

    if isinstance(item, Broken):
        return {"name": name, "broken": f"BROKEN: {item.reason}", "title": "", "fits": [], "settings": {}}
    return {
        "name": name,
        "broken": "",
        "version": item.version,
        "title": item.title,
        "text": item.text,
        "needs": sorted(item.needs),
        "fits": sorted(item.modality) or ["every input"],
        "settings": item.settings({}),
    }


def _explain(fact: dict[str, Any]) -> None:
    lines = [f"{fact['name']} - {fact['broken'] or fact['title']}", "", fact.get("text", ""), ""]
    lines += ["settings and their defaults:"]
    lines += [f"  {key} = {json.dumps(value)}" for key, value in fact["settings"].items()]
    print("\n".join(lines))  # noqa: T201 - this is the command line
