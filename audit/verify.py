"""Verify: whether a run folder is what was signed, and says what follows from its own numbers.

What is proved is origin and integrity, and that verdicts and documents follow from the record. Whether the
numbers are true, only measuring again can show. Everything that is derived here is derived by `audit.proof`,
which shares no code with what measured and judged.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.errors import AuditError, ConfigError, LoadError

if TYPE_CHECKING:
    from audit.proof.envelope import Seal
    from audit.proof.statement import Proof, Statement, Statements
    from audit.record import Record
    from audit.rendered import Rendering, Sources

_RECORD, _SEAL = "record.json", "seal.json"
_NAMED = 5
_NOT_PROVED = (
    "That the numbers are true: a signer can sign what was never measured. Reproducing the run can show it.",
    "That the journal was written while it was measured, and whole: its times are the word of who ran it.",
    "That the data are right for the purpose, or that what was not tested holds.",
    "Texts, tables, figures and costs beyond their bytes: no count in the record leads to them.",
)


def verify(
    run: str | Path,
    key: str | Path | None = None,
    *,
    model: str | Path | None = None,
    data: str | Path | None = None,
    packs: Sequence[Path] = (),
    attestations: Path | None = None,
    first: bool = False,
) -> "Proof":
    """Check a run folder: its signature, every file, every number, verdict and document.

    Args:
        run: the run folder.
        key: the public key that it is expected to be signed by; without it no origin is proved.
        model: the model file, to be hashed again.
        data: the data, to be hashed and read again.
        packs: documents of one's own, to render them again.
        attestations: the statements that went into documents; those with the run where None.
        first: stop at the first thing that is wrong.

    Returns:
        What was found; `exit_code` 0 when all is proved, 1 when something is wrong, 2 when something is open.

    Raises:
        ConfigError: no run folder, or no key in the file; the extra `sign` is needed and not installed.
        LoadError: the model or the data are not there.
    """
    from audit.keys import read_public
    from audit.proof.statement import Proof
    from audit.rendered import Sources

    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    if not any((folder / name).is_file() for name in (_RECORD, _SEAL)):
        raise ConfigError(f"{run} is not a run folder; one holds a record.json.")
    sources = Sources(folder, tuple(packs), attestations)
    expected = None if key is None else (Path(key), read_public(Path(key)))
    files = {what: Path(path) for what, path in (("model", model), ("data", data)) if path is not None}
    for path in files.values():
        if not path.exists():
            raise LoadError(f"{path} does not exist, so it cannot be hashed.")
    found: list[Statement] = []
    for statement in _statements(sources, expected, files):
        found.append(statement)
        if first and statement.kind == "wrong":
            break
    return Proof(tuple(found))


def _statements(
    sources: "Sources", expected: tuple[Path, bytes] | None, files: Mapping[str, Path]
) -> "Statements":
    folder = sources.folder
    seal, told = _opened(folder, expected)
    yield from told
    if seal is not None:
        from audit.proof.files import files as hashed

        yield from hashed(folder, seal.files, seal.root)
    record, told = _read(folder)
    yield from told
    if isinstance(record, dict):
        yield from contents(record, folder)
        yield from _documents(record, sources, seal)
        for what, path in files.items():
            yield from _guarded(what, _same_model if what == "model" else _same_data, record, path, folder)
    for what in (what for what in ("model", "data") if what not in files):
        yield _noted(what, f"The {what} was not given, so it was not hashed again (--{what}).")
    yield from (_noted("truth", text) for text in _NOT_PROVED)


def _noted(what: str, text: str) -> "Statement":
    from audit.proof.statement import noted

    return noted(what, text)


def _opened(folder: Path, expected: tuple[Path, bytes] | None) -> "tuple[Seal | None, list[Statement]]":
    """The seal of a folder, and what is to be said of its signature."""
    from audit.keys import require
    from audit.proof.envelope import opened
    from audit.proof.statement import unproved, wrong

    path = folder / _SEAL
    if not path.is_file() or path.is_symlink():
        if expected is not None:
            return None, [wrong("signature", "it is not there, so the run is not signed by anybody.", _SEAL)]
        said = "The run is not signed: its hashes cannot be held against anything, and anybody can change it."
        return None, [unproved("signature", said)]
    require()
    try:
        seal = opened(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return None, [wrong("signature", f"{error}.", _SEAL)]
    return seal, [_signed_by(seal, expected)]


def _signed_by(seal: "Seal", expected: tuple[Path, bytes] | None) -> "Statement":
    from audit.proof.statement import proved, unproved, wrong

    when = f"on {seal.predicate.get('signed')} by the signer's clock"
    if expected is None:
        return unproved(
            "signature",
            f"The signature holds for the key inside it, {seal.key_id[:16]}, {when}. Nobody said whose key "
            "to expect, so anybody may have signed it: --key PUB names the one you trust.",
            _SEAL,
        )
    path, public = expected
    if public != seal.public:
        return wrong(
            "signature", f"it was signed by the key {seal.key_id[:16]}, not by that of {path}.", _SEAL
        )
    return proved("signature", f"The key of {path}, {seal.key_id[:16]}, signed it {when}.", _SEAL)


def _read(folder: Path) -> "tuple[Any, list[Statement]]":
    from audit.proof.consistency import readable
    from audit.proof.statement import wrong

    path = folder / _RECORD
    if not path.is_file():
        return None, [wrong("record", "it is not there.", _RECORD)]
    record, told = readable(path.read_bytes())
    if record is not None and not isinstance(record, dict):
        told = [wrong("record", "it is no object.", _RECORD)]
    return record, told


def contents(record: Mapping[str, Any], folder: Path) -> "Statements":
    """What a record says twice, and what follows from its numbers: needs no signature.

    Args:
        record: the record as JSON values.
        folder: its run folder.
    """
    from audit.proof.consistency import consistency
    from audit.proof.numbers import numbers, verdicts

    yield from _guarded("record", consistency, record, folder)
    yield from _guarded("numbers", numbers, record)
    yield from _guarded("verdicts", verdicts, record)


def _guarded(what: str, check: Callable[..., "Statements"], *given: Any) -> "Statements":
    """A check whose own stumbling over what it reads is told as what it is: a record of no known form."""
    from audit.proof.statement import wrong

    try:
        yield from check(*given)
    except AuditError:
        raise
    except Exception as error:  # noqa: BLE001 - a hostile record may break any expectation
        said = (
            f"this part cannot be checked, since it is not as a record is: {type(error).__name__}: {error}."
        )
        yield wrong(what, said, _RECORD)


def _documents(record: Mapping[str, Any], sources: "Sources", seal: "Seal | None") -> "Statements":
    """Render every document again, those that the seal names and those that have the name of one."""
    from audit.proof.statement import wrong
    from audit.record import record_from

    try:
        noun = record_from(record, _RECORD)
    except ConfigError as error:
        yield wrong("documents", f"nothing can be rendered: {error}", _RECORD)
        return
    yield from _guarded("documents", _rendered, noun, sources, seal)


def _rendered(record: "Record", sources: "Sources", seal: "Seal | None") -> "Statements":
    from audit.proof.files import listing
    from audit.proof.statement import counted, noted, proved
    from audit.rendered import FOLDER, Rendering

    sealed = {item["path"]: Rendering(**item) for item in seal.predicate["documents"]} if seal else {}
    other, same, strange = _other_build(seal), 0, []
    for name in (name for name in listing(sources.folder)[0] if name.startswith(f"{FOLDER}/")):
        made = sealed.get(name)
        found = list(
            _as_sealed(record, name, sources, made, other) if made else _by_name(record, name, sources, other)
        )
        yield from (item for item in found if item.kind != "proved")
        same += any(item.kind == "proved" for item in found)
        strange += [] if found else [name]
    if same:
        said = f"{counted(same, 'document')} came out byte for byte the same, rendered again from the record."
        yield proved("documents", said)
    if strange:
        said = (
            f"{counted(len(strange), 'file')} hashed and not rendered again, since nothing here writes them: "
        )
        yield noted(
            "documents", said + ", ".join(strange[:_NAMED]) + ("." if len(strange) <= _NAMED else ", ...")
        )


def _other_build(seal: "Seal | None") -> str:
    """Why a document that comes out otherwise here need not be wrong: another build of the tool sealed it."""
    from audit.rendered import renderer

    build = seal.predicate.get("renderer", renderer()) if seal else renderer()
    if build == renderer():
        return ""
    return (
        f"it was rendered by another build of this tool (sha256 {str(build)[:12]}, and this is "
        f"{renderer()[:12]}), and comes out otherwise here: its bytes were held against the seal, and what "
        "it says was not compared."
    )


def _as_sealed(
    record: "Record", name: str, sources: "Sources", made: "Rendering", other: str
) -> "Statements":
    """A file against what the seal says that it was rendered from."""
    from audit.proof.statement import noted, proved, unproved, wrong
    from audit.rendered import again, missing, named_for

    if not named_for(made):
        yield wrong("documents", f"the seal says that it was rendered as '{made.form}'.", name)
        return
    why = missing(made, sources)
    if why:
        said = f"it was only hashed: {why}."
        yield (noted if made.form == "pdf" and made.browser else unproved)("documents", said, name)
    elif again(record, made, sources) == (sources.folder / name).read_bytes():
        yield proved("documents", "it is what the record renders to.", name)
    elif made.form == "pdf":
        yield unproved("documents", "printed again here it differs; fonts may do that.", name)
    elif other:
        yield unproved("documents", other, name)
    else:
        yield wrong("documents", "it is not what the record renders to.", name)


def _by_name(record: "Record", name: str, sources: "Sources", other: str) -> "Statements":
    """A file against what its name says; nothing for a name that nothing here writes."""
    from audit.proof.statement import proved, unproved, wrong
    from audit.rendered import candidates, found_out, missing

    possible = candidates(name, sources)
    if not possible:
        return
    if all(missing(made, sources) for made in possible):
        yield unproved("documents", "it cannot be rendered again here.", name)
        return
    try:
        found_out(record, name, sources)
    except ConfigError as error:
        measured = record.tool.get("version") == possible[0].tool and not other
        yield (wrong if measured else unproved)("documents", other or str(error).partition(" ")[2], name)
        return
    yield proved("documents", "it is what the record renders to.", name)


def _same_model(record: Mapping[str, Any], path: Path, folder: Path) -> "Statements":
    from audit.proof.files import sha256_of
    from audit.proof.statement import noted, proved, wrong

    del folder
    if not path.is_file():
        yield wrong("model", f"{path} is no file.", str(path))
    elif sha256_of(path) == record["model"].get("sha256"):
        yield proved(
            "model", f"{path} is the file that was audited (sha256 {record['model']['sha256'][:16]})."
        )
        if record["model"].get("factory"):
            code = str(record["model"].get("factory_sha256") or "unknown")[:16]
            said = "builds the network, and it was not hashed again"
            yield noted("model", f"The code of {record['model']['factory']} (sha256 {code}) {said}.")
    else:
        yield wrong(
            "model", f"it is not the model of the record: its sha256 is {sha256_of(path)}.", str(path)
        )


def _same_data(record: Mapping[str, Any], path: Path, folder: Path) -> "Statements":
    """The data file by its sha256, and the rows as read where the record tells how they were."""
    from audit.proof.files import sha256_of
    from audit.proof.statement import proved, unproved, wrong

    told = record["data"]
    if path.is_file() and sha256_of(path) != told.get("sha256"):
        yield wrong("data", f"it is not the data of the record: its sha256 is {sha256_of(path)}.", str(path))
        return
    if path.is_file():
        yield proved("data", f"{path} is the file that was audited (sha256 {told['sha256'][:16]}).")
    if "config" not in record["run"]:
        yield unproved(
            "data", "The record does not tell how the rows were read, so they were not read again."
        )
        return
    try:
        read = _read_again(record, path, folder)
    except AuditError as error:
        yield unproved("data", f"The rows could not be read again: {error}")
        return
    if read.fingerprint == told.get("fingerprint"):
        yield proved(
            "data", f"Read again, its {read.size} rows have the fingerprint {told['fingerprint'][:16]}."
        )
    else:
        yield wrong("data", f"read again, its rows have the fingerprint {read.fingerprint}.", str(path))


def _read_again(record: Mapping[str, Any], path: Path, folder: Path) -> Any:
    from audit.config import DataSection
    from audit.read import load_data

    config = record["run"]["config"]
    try:
        section = DataSection.model_validate({**config["data"], "path": path.absolute()})
    except ValueError:
        raise ConfigError("the record's [data] is not one of this version.") from None
    model, file = config["model"], record["run"].get("config_file")
    given = model["classes"] if isinstance(model["classes"], list) else record["model"]["classes"]
    limits = model["input_range"]
    return load_data(
        section,
        (folder / file).parent if file else path.absolute().parent,
        classes=tuple(given) if model["classes"] else (),
        input_range=None if limits is None else (limits[0], limits[1]),
        predictions=model["predictions"],
        threshold=model["threshold"],
        task=model["task"],
    )
