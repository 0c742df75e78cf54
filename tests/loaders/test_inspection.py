import contextlib
import json
import sys

import pytest
import torch
from hostile import exported
from hostile_program import EXECUTED, REFUSED, guard
from networks import CNN, MLP, LeNet, ResNet20, seeded

from audit.errors import LoadError
from audit.loaders.archive import read_archive
from audit.loaders.inspection import inspect_archive, is_expression, is_operator, is_tree


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_hostile_archive_is_refused_and_nothing_of_it_runs(make, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    marker = tmp_path / "ran"
    path = make(tmp_path / "model.pt2", marker)
    with pytest.raises(LoadError) as refused:
        inspect_archive(read_archive(path))
    assert refused.value.exit_code == 4
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not marker.exists()


@pytest.mark.parametrize("make", EXECUTED, ids=lambda make: make.__name__)
@pytest.mark.filterwarnings("ignore")  # torch warns of what it is about to do, in words that change
def test_the_hostile_archives_are_hostile(make, tmp_path, monkeypatch, caplog):
    """torch alone runs their code: the refusals above are of real dangers."""
    if torch.__version__ < "2.13":
        pytest.skip("what torch executes was established for torch 2.13")
    caplog.set_level("CRITICAL")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    sys.modules.pop("planted_module", None)
    marker = tmp_path / "ran"
    path = make(tmp_path / "model.pt2", marker)
    with contextlib.suppress(Exception):  # whatever comes of it, the question is what ran
        torch.export.load(path).module()
    assert marker.exists()


@pytest.mark.parametrize(
    ("network", "shape"),
    [(MLP, (5,)), (CNN, (1, 8, 8)), (LeNet, (1, 28, 28)), (ResNet20, (3, 32, 32))],
)
def test_honest_exports_pass(network, shape, tmp_path):
    rows = torch.zeros(2, *shape)
    dimension = torch.export.Dim("batch", max=512)
    program = torch.export.export(seeded(network), (rows,), dynamic_shapes=({0: dimension},))
    torch.export.save(program, tmp_path / "model.pt2")
    inspect_archive(read_archive(tmp_path / "model.pt2"))


def test_an_export_with_shape_arithmetic_attention_and_text_arguments_passes(tmp_path):
    class Attentive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, rows):
            hidden = rows.reshape(rows.shape[0], -1, 4)
            hidden, _ = self.attention(hidden, hidden, hidden)
            return torch.einsum("bij->bj", hidden)

    program = torch.export.export(
        Attentive().eval(), (torch.zeros(2, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, tmp_path / "model.pt2")
    inspect_archive(read_archive(tmp_path / "model.pt2"))


def test_guards_are_left_to_the_loader_which_drops_them(tmp_path):
    inspect_archive(read_archive(guard(tmp_path / "model.pt2", tmp_path / "ran")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "2*s0",
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(36), Symbol('s77', integer=True))",
        "Max(1, s0 - 3)",
        "FloorDiv(s0, 2) >= 4",
    ],
)
def test_shape_arithmetic_is_an_expression(text):
    assert is_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "Symbol('__import__(1)')",
        "Symbol.__class__",
        "(lambda: 1)()",
        "[s0 for s0 in (1,)]",
        "getattr(s0, 'a')",
        "Mul('exec(1)', 2)",
        "s0[0]",
        "f'{s0}'",
        "b'bytes'",
        "1 +",
        "",
    ],
)
def test_anything_more_is_not(text):
    assert not is_expression(text)


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.relu.default",
        "torch.ops.aten.__and__.Tensor",
        "torch.ops.higher_order.cond",
        "torch.sym_max",
        "_operator.getitem",
        "math.ceil",
    ],
)
def test_tensor_operators_are_allowed(target):
    assert is_operator(target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.load_library",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.relu.__call__",
        "torch.ops.c10d.barrier.default",
        "torch.ops.higher_order.triton_kernel_wrapper_mutation",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "math.__loader__",
        "builtins.eval",
        "#extension:op",
        "",
    ],
)
def test_others_are_not(target):
    assert not is_operator(target)


def _tree(kind, context="null", children=()):
    return json.dumps([1, {"type": kind, "context": context, "children_spec": list(children)}])


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (_tree(None, None), True),
        (_tree("builtins.dict", '["x", "y"]'), True),
        (_tree("builtins.dict", '["x\\"]; import os"]'), False),
        (_tree("builtins.dict", '{"__enum__": true, "fqn": "os:system"}'), False),
        (_tree("collections.defaultdict"), False),
        (_tree("builtins.tuple", "null", [{"type": "collections.deque", "context": "1"}]), False),
        ("[2, {}]", False),
        ("no json", False),
    ],
)
def test_only_plain_containers_are_trees(text, plain):
    assert is_tree(text) == plain


def test_an_unreadable_graph_is_one_sentence(tmp_path):
    from hostile import with_records

    path = with_records(exported(tmp_path / "model.pt2"), {"models/model.json": b"{"})
    with pytest.raises(LoadError, match=r"record 'models/model.json' is not valid JSON"):
        inspect_archive(read_archive(path))
