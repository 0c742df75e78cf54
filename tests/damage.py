"""Ways in which a file can be wrong, drawn from a seed: cut, overwritten, of another type, absent."""

import io
import json
import os
import random
import re

import numpy as np

LEVELS = (50, 101, 900, 100_000)
WRONG = (
    *(
        '""',
        '"x"',
        '"\\u0000"',
        '"../.."',
        '"2026-11-21"',
        "0",
        "-1",
        "0.5",
        "1e999",
        "nan",
        "true",
        "[]",
        "{}",
    ),
    *("[[]]", '["a"]', "[1, 2]", "9007199254740993", "1" + "0" * 400, "1" + "0" * 5_000, f'"{"y" * 50_000}"'),
    *("[" * levels + "]" * levels for levels in LEVELS),
)
WRONG_JSON = (*WRONG, "null", "NaN", "-Infinity", '"\\ud800"', '{"a": null}', '{"": {}}', "5e-324", "1e308")
WRONG_CELLS = ("", "nan", "-inf", "1" + "0" * 5_000, "\0", '"', "z" * 200_000, "\u2028", "1,2", "=1+1")
LEAF = re.compile(rb'"(?:[^"\\]|\\.)*"|(?<![\w."])-?\d[\d.eE+-]*(?![\w"])|\b(?:true|false|null)\b|\[\]|\{\}')
PLACES = ("missing", "folder", "broken link", "circle of links", "pipe", "device", "nested without end")


def misplaced(path, what):
    """Put something else where a file is."""
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "nested without end":
        path.write_bytes(b'{"a":[' * 50_000)
    elif what != "missing":
        path.symlink_to({"broken link": "nowhere", "circle of links": path.name, "device": "/dev/zero"}[what])


def damaged(name, content, seed):
    """The content of a file of that name, wrong in one way out of many; the same for the same seed."""
    draw = random.Random(f"{name} {seed}")  # noqa: S311 - a seed, not a secret
    ways = {
        "json": (_structure, _value),
        "jsonl": (_line,),
        "toml": (_value,),
        "npz": (_array,),
        "csv": (_cell,),
    }
    return draw.choice((_bytes, *2 * ways.get(name.rpartition(".")[2], ())))(content, draw)


def _bytes(content, draw):
    start, changed = draw.randrange(len(content)), bytearray(content)
    for _ in range(draw.choice((1, 5, 50))):
        changed[draw.randrange(len(content))] = draw.randrange(256)
    rubbish = draw.randbytes(draw.choice((1, 300, 5_000)))
    utf16 = b"\xff\xfe" + content.decode("latin-1").encode("utf-16-le")
    ways = (b"", content[:start], bytes(changed), rubbish, content[:start] + rubbish + content[start:], utf16)
    return draw.choice(ways)


def _value(content, draw):
    """Another literal in the place of one; a key of JSON is one as well."""
    found = draw.choice(list(LEAF.finditer(content)))
    wrong = draw.choice(WRONG_JSON if content.startswith(b"{") else WRONG)
    return content[: found.start()] + wrong.encode() + content[found.end() :]


def _structure(content, draw):
    """A value of a JSON document deleted, doubled, of another type, or in the place of another."""
    whole = json.loads(content)
    places = {}
    for parents, key in _places(whole):
        places.setdefault(tuple(str(part) for part in parents if isinstance(part, str)), []).append(key)
    (parent, key), (other, other_key) = (draw.choice(places[draw.choice(sorted(places))]) for _ in range(2))
    wrong = draw.choice(WRONG_JSON)
    match draw.randrange(5):
        case 0:
            del parent[key]
        case 1:
            parent[key] = json.loads(json.dumps(other[other_key]))
        case 2 if isinstance(parent, list):
            parent.append(parent[key])
        case 3 if isinstance(parent, dict):
            parent[key] = "@"
            wrong = f"{wrong}, {json.dumps(key)}: {draw.choice(WRONG_JSON)}"
        case _:
            parent[key] = "@"
    return json.dumps(whole).replace('"@"', wrong, 1).encode()


def _places(value, above=()):
    """The names above each value of a document, with what holds it and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key), (value, key)
        yield from _places(item, (*above, key))


def _line(content, draw):
    """A line of a journal doubled, lost, or wrong in itself."""
    lines = content.splitlines(keepends=True)
    at = draw.randrange(len(lines))
    lines[at : at + 1] = draw.choice(([], [lines[at]] * 2, [_structure(lines[at], draw) + b"\n"], [b"{}\n"]))
    return b"".join(lines)


def _cell(content, draw):
    lines = content.decode().splitlines()
    at = draw.choice((0, draw.randrange(len(lines))))
    cells = lines[at].split(",")
    cells[draw.randrange(len(cells))] = draw.choice(WRONG_CELLS)
    lines[at] = draw.choice((",".join(cells), "", lines[at] + ",1", lines[at][:3]))
    return "\n".join(lines[: draw.choice((1, None, None, None))]).encode()


def _array(content, draw):
    """An array lost, or of another type, shape or content."""
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    name = draw.choice(sorted(arrays))
    array = arrays.pop(name)
    ways = (array[:0], array[None], np.zeros(()), array.astype(str), np.full_like(array, 99), np.array([{}]))
    out = io.BytesIO()
    np.savez(out, **arrays, **draw.choice(({}, *({name: way} for way in ways))))
    return out.getvalue()
