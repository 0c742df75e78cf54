"""Statement: one thing that a verification found, in plain words, with the place it speaks of."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["proved", "noted", "open", "wrong"]
_PROVED, _WRONG, _OPEN = 0, 1, 2
_WORDS = {
    _PROVED: "Proved: origin, integrity, and that all verdicts follow from the record. Not that it is true.",
    _WRONG: "Not what was signed, or it does not follow from its own numbers: do not rely on it.",
    _OPEN: "Nothing was found wrong, but not everything could be proved.",
}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing found.

    Attributes:
        kind: `proved`; `noted`, what nothing here could prove and nothing hangs on; `open`, what would have
            to be proved and was not; `wrong`.
        what: what it speaks of, e.g. `signature`, `files`, `numbers`.
        text: one sentence for the reader.
        where: the place: a file of the run folder, with a JSON pointer or a line where there is one.
    """

    kind: Kind
    what: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        """The place and the sentence."""
        return f"{self.where}: {self.text}" if self.where else self.text


@dataclass(frozen=True)
class Proof:
    """Everything that a verification found, in the order in which it looked."""

    statements: tuple[Statement, ...]

    @property
    def exit_code(self) -> int:
        """0 when all is proved, 1 when something is wrong, 2 when something is open."""
        kinds = {item.kind for item in self.statements}
        if "wrong" in kinds:
            return _WRONG
        return _OPEN if "open" in kinds or "proved" not in kinds else _PROVED

    @property
    def words(self) -> str:
        """The answer in one sentence."""
        return _WORDS[self.exit_code]

    def of(self, kind: Kind) -> tuple[Statement, ...]:
        """The statements of one kind."""
        return tuple(item for item in self.statements if item.kind == kind)

    def plain(self) -> dict[str, Any]:
        """The proof as JSON values."""
        return {
            "exit_code": self.exit_code,
            "answer": self.words,
            "statements": [asdict(item) for item in self.statements],
        }


Statements = Iterator[Statement]


def proved(what: str, text: str, where: str = "") -> Statement:
    """What was proved."""
    return Statement(kind="proved", what=what, text=text, where=where)


def noted(what: str, text: str, where: str = "") -> Statement:
    """What nothing here can prove, and nothing hangs on."""
    return Statement(kind="noted", what=what, text=text, where=where)


def unproved(what: str, text: str, where: str = "") -> Statement:
    """What would have to be proved and was not."""
    return Statement(kind="open", what=what, text=text, where=where)


def wrong(what: str, text: str, where: str = "") -> Statement:
    """What is not as it must be."""
    return Statement(kind="wrong", what=what, text=text, where=where)


def counted(number: int, noun: str) -> str:
    """A number of things in words: `1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
