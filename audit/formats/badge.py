"""A badge: the verdict in one word, as a picture for a README or a model's page.

It says no more than the word and carries it as a text too, for who cannot see it. A word is never told by
its colour alone.
"""

from html import escape

from audit.policy import Verdict
from audit.record import Record
from audit.wording import VERDICT_WORDS

FILE = "badge.svg"
_NAME = "model audit"
# Each with at least 4.5 to 1 of contrast to the white word on it (WCAG 2.2, 1.4.3).
_COLOURS = {
    Verdict.PASS: "#1a7f37",
    Verdict.FAIL: "#b42318",
    Verdict.INCONCLUSIVE: "#8a5a00",
    Verdict.NOT_EVALUABLE: "#8a5a00",
    Verdict.BROKEN: "#b42318",
    Verdict.NOT_APPLICABLE: "#57606a",
    Verdict.NOT_JUDGED: "#57606a",
}
_LETTER, _MARGIN, _HEIGHT = 6.6, 7, 20


def badge(record: Record) -> bytes:
    """The verdict of a record as an SVG picture that loads nothing and runs nothing."""
    verdict = record.verdict.verdict
    word, meaning = VERDICT_WORDS[verdict]
    waived = record.verdict.waived
    if waived:
        word = f"{word}, {waived} waived"
    left, right = (round(len(text) * _LETTER + 2 * _MARGIN) for text in (_NAME, word))
    title, said = escape(f"{_NAME}: {word}"), escape(meaning)
    style = 'font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}" role="img" '
        f'aria-label="{title}">\n'
        f"  <title>{title}</title>\n"
        f"  <desc>{said}</desc>\n"
        f'  <rect width="{left}" height="{_HEIGHT}" fill="#24292f"/>\n'
        f'  <rect x="{left}" width="{right}" height="{_HEIGHT}" fill="{_COLOURS[verdict]}"/>\n'
        f'  <g fill="#ffffff" {style}>\n'
        f'    <text x="{left / 2:g}" y="14">{escape(_NAME)}</text>\n'
        f'    <text x="{left + right / 2:g}" y="14">{escape(word)}</text>\n'
        "  </g>\n"
        "</svg>\n"
    ).encode()
