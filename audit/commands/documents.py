"""`model-audit documents`: which governance documents can be rendered."""

from typing import Any

from audit.commands.options import Json, Pack, print_json
from audit.errors import EXIT_OK


def documents(pack: Pack = None, as_json: Json = False) -> int:
    """List the governance documents that can be rendered from a run."""
    from audit.document import installed_documents
    from audit.terminal import console, show_list

    facts = [_document_facts(item) for item in installed_documents([pack] if pack else []).values()]
    if as_json:
        print_json(facts)
    else:
        rows = [[fact[key] for key in _LISTED] for fact in facts]
        show_list(rows, ("document", *(key.replace("_", " ") for key in _LISTED[1:])), console())
    return EXIT_OK


_LISTED = ("name", "title", "jurisdiction", "status", "version", "review_by")


def _document_facts(item: Any) -> dict[str, Any]:
    framework = item.framework
    return {
        "name": item.name,
        "title": item.title,
        "purpose": item.purpose,
        "version": item.version,
        "clauses": len(item.clauses),
        "jurisdiction": framework.jurisdiction if framework else "",
        "status": framework.status if framework else "",
        "superseded_by": framework.superseded_by if framework else "",
        "review_by": str(framework.review_by) if framework else "",
    }
