"""ART behind our own judge: every attack ends with a number or a reason, and leaves nothing behind."""

import inspect
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from audit.attack import art as adapter
from audit.attack.art import ArtAttack, art_result
from audit.attack.catalogue import (
    arguments,
    bounded,
    misfit,
    offered,
    unknown_argument,
    unknown_attack,
    usual_norm,
)
from audit.attack.curve import Target
from audit.attack.space import Space
from audit.errors import ConfigError, NotApplicable
from audit.model import Model, Passes, state_hash

SHAPES = {"image": (1, 8, 8), "tabular": (6,), "series": (2, 12)}
QUICK = (
    "AutoProjectedGradientDescent", "BasicIterativeMethod", "BoundaryAttack", "CarliniL2Method", "DeepFool",
    "ElasticNet", "FastGradientMethod", "HopSkipJump", "MomentumIterativeMethod", "NewtonFool",
    "ProjectedGradientDescent", "SaliencyMapMethod", "SimBA", "SpatialTransformation", "SquareAttack",
    "VirtualAdversarialMethod", "ZooAttack",
)  # fmt: skip
SMALL = {
    "max_iter": 10, "n_steps": 30, "nb_steps": 10, "steps": 10, "binary_search_steps": 3, "max_eval": 100,
    "init_eval": 10, "num_trial": 10, "query_limit": 300, "max_translation": 30.0, "num_translations": 3,
    "max_rotation": 40.0, "num_rotations": 3, "es": 1, "nb_random_init": 1, "kernel_size": 3,
    "projected_sinkhorn_max_iter": 20, "conjugate_sinkhorn_max_iter": 20,
}  # fmt: skip
SPECIAL = {
    "BoundaryAttack": {"max_iter": 30},
    "CarliniL2Method": {"max_iter": 20, "initial_const": 1.0, "binary_search_steps": 5, "learning_rate": 0.1},
    "ElasticNet": {"max_iter": 30, "initial_const": 1.0},
    "SimBA": {"attack": "px", "max_iter": 200, "epsilon": 0.5},
    "ZooAttack": {"use_resize": False, "use_importance": False, "nb_parallel": 8, "max_iter": 30,
                  "initial_const": 10.0, "learning_rate": 0.1},
    "ThresholdAttack": {"max_iter": 3},
    "PixelAttack": {"max_iter": 3},
    "BrendelBethgeAttack": {"steps": 5},
}  # fmt: skip


def build(kind, fixed=False, scaled=False, output="logits", classes=3):
    """A small net that tells patterns apart, with a frozen layer, and 12 rows to attack."""
    shape, draw = SHAPES[kind], np.random.default_rng(0)
    labels = draw.integers(0, classes, 200)
    inputs = draw.random((classes, *shape))[labels] * 0.5 + draw.random((200, *shape)) * 0.5
    inputs = np.clip(inputs, 0, 1).astype(np.float32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Flatten(),
            nn.Linear(int(np.prod(shape)), 16),
            nn.BatchNorm1d(16),
            nn.Tanh(),
            nn.Linear(16, classes),
        )
        optimiser = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(40):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(torch.tensor(inputs)), torch.tensor(labels))
            loss.backward()
            optimiser.step()
    net.eval()
    net[1].weight.requires_grad_(False)
    if output == "probabilities":
        net = nn.Sequential(net, nn.Softmax(1)).eval()
    model = Model(
        module=net, device=torch.device("cpu"), input_range=(0.0, 1.0), output=output, passes=Passes(batch=64)
    )
    unit = inputs.std(axis=0) if scaled else np.ones(shape, np.float32)
    if fixed:
        unit.reshape(-1)[0] = 0
    space = Space(
        scale="std" if scaled else "input",
        unit=unit.astype(np.float32),
        low=np.zeros(shape, np.float32),
        high=np.ones(shape, np.float32),
        epsilons=(0.1,),
    )
    rows = np.arange(12)
    correct = model.predict(inputs[rows]).argmax(1).numpy() == labels[rows]
    model.passes.forward = 0
    return Target(model, inputs, labels, rows, correct, space, 0)


def attack(name, norm=None, **given):
    taken = arguments(name).names
    small = {key: value for key, value in {**SMALL, **SPECIAL.get(name, {})}.items() if key in taken}
    return ArtAttack(name=name, norm=norm or usual_norm(name), arguments={**small, **given})


def run(target, name, kind="image", epsilons=(0.0, 0.3), **settings):
    return art_result(target, epsilons, attack(name, **settings), kind)


@pytest.fixture(scope="module")
def image():
    return build("image")


def judged_by_hand(target, result):
    """Every kept example again, without the code under test."""
    for entry in result.attack.at:
        rows = target.rows[entry.kept]
        with torch.no_grad():
            said = target.model.scores(torch.tensor(entry.examples)).argmax(1).numpy()
        moved = np.abs(entry.examples - target.inputs[rows]).reshape(len(rows), target.space.unit.size)
        free = target.space.unit.reshape(-1) > 0
        order = {"linf": np.inf, "l2": 2, "l1": 1}[result.attack.settings["norm"]]
        length = np.linalg.norm(moved[:, free] / target.space.unit.reshape(-1)[free], order, axis=1)
        assert (said != target.labels[rows]).all()
        assert (length <= entry.epsilon * (1 + 1e-4) + 1e-6).all()
        assert (moved[:, ~free] == 0).all()
        assert (entry.examples >= 0).all()
        assert (entry.examples <= 1).all()


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_attack_finds_something_and_leaves_the_model_as_it_was(image, name):
    before = state_hash(image.model.module)
    found = run(image, name, epsilons=(0.0, 0.4, 4.0))
    assert state_hash(image.model.module) == before
    assert found.attack.at[0].fooled.sum() == 0
    assert found.attack.at[-1].fooled.any(), found
    assert found.attack.forward_rows > 0
    judged_by_hand(image, found)


def ends_well(target, name, kind):
    """Measured, or not applicable with a reason; the model untouched either way."""
    before = state_hash(target.model.module)
    reason, outcome = "", None
    try:
        outcome = run(target, name, kind)
    except NotApplicable as error:
        reason = str(error)
    assert state_hash(target.model.module) == before
    if outcome is None:
        assert name in reason
        assert reason.endswith(".")
        assert "\n" not in reason
    else:
        judged_by_hand(target, outcome)
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "tabular", "series"])
@pytest.mark.parametrize("name", sorted(offered()))
def test_every_attack_that_art_offers_ends_measured_or_with_a_reason(name, kind):
    ends_well(build(kind, scaled=kind == "tabular", fixed=kind == "tabular"), name, kind)


@pytest.mark.parametrize("name", ["GeoDA", "AutoAttack", "AdversarialPatchPyTorch", "DPatch", "LaserAttack"])
def test_what_is_broken_or_made_for_others_is_not_applicable(image, name):
    assert ends_well(image, name, "image") is None


def test_what_art_refuses_while_it_runs_is_not_applicable():
    target = build("image", classes=2)
    with pytest.raises(NotApplicable, match="not yet been tested for binary classification"):
        run(target, "SignOPTAttack")


def test_attacks_that_know_one_range_only_are_not_run_where_columns_have_several():
    with pytest.raises(NotApplicable, match="these columns have several"):
        run(build("tabular", scaled=True), "SaliencyMapMethod", "tabular")
    run(build("tabular"), "SaliencyMapMethod", "tabular")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "tabular"])
@pytest.mark.parametrize("name", sorted(set(offered()) - {"BrendelBethgeAttack", "PixelAttack"}))
def test_two_classes_are_no_trap(name, kind):
    ends_well(build(kind, classes=2, scaled=kind == "tabular"), name, kind)


def test_attacks_for_images_are_not_run_on_rows_of_numbers():
    target = build("tabular")
    with pytest.raises(NotApplicable, match="made for images; these inputs are tabular"):
        run(target, "SpatialTransformation", "tabular")


def test_the_catalogue_is_the_one_that_art_shows_when_it_is_imported():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ART warns about optional packages while it is imported
        from art.attacks import EvasionAttack, evasion
    shown = {
        name: item
        for name, item in vars(evasion).items()
        if inspect.isclass(item) and issubclass(item, EvasionAttack)
    }
    assert set(offered()) >= set(shown)
    assert set(offered()) - set(shown) <= {"BrendelBethgeAttack"}  # imported only where numba is installed
    for name, kind in shown.items():
        parameters = list(inspect.signature(kind.__init__).parameters.values())[2:]
        assert arguments(name).names == tuple(p.name for p in parameters)
        assert arguments(name).required == tuple(p.name for p in parameters if p.default is p.empty)


def test_names_that_nobody_offers_are_told_with_the_nearest():
    assert unknown_attack("DeepFool") == ""
    assert "the nearest is 'DeepFool'" in unknown_attack("DeepFoul")
    assert unknown_argument("CarliniL2Method", ["confidence"]) == ""
    assert "the nearest is 'confidence'" in unknown_argument("CarliniL2Method", ["confidance"])
    assert "set epsilon beside it" in unknown_argument("SquareAttack", ["eps"])
    assert unknown_argument("Wasserstein", ["eps"]) == ""


def test_a_bounded_attack_of_one_norm_refuses_another():
    assert "set norm = 'linf'" in misfit("BasicIterativeMethod", "l2", "image", 3)
    assert misfit("BasicIterativeMethod", "linf", "image", 3) == ""


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_fgsm_through_the_adapter_is_the_sign_of_the_gradient(output):
    """By hand: one step of epsilon along the sign of the gradient of the loss at the true label."""
    target = build("image", output=output)
    found = run(target, "FastGradientMethod", epsilons=(0.3,)).attack.at[0]
    x, y = torch.tensor(target.inputs[:12]), torch.tensor(target.labels[:12])
    leaf = x.clone().requires_grad_()
    scores = target.model.scores(leaf)
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(scores, y, reduction="sum"), leaf)
    points = (x + 0.3 * slope.sign()).clamp(0, 1)
    fooled = (target.model.scores(points).argmax(1) != y).numpy() & target.correct
    np.testing.assert_array_equal(found.fooled, fooled)
    assert fooled.any()
    np.testing.assert_array_equal(found.examples, points.numpy()[found.kept])


def line():
    """Two inputs, class 1 where 3 a + 4 b > 3.5: the model, 40 points, their space and labels."""
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        net.bias.copy_(torch.tensor([0.0, -3.5]))
    points = np.random.default_rng(0).uniform(0.3, 0.7, (40, 2)).astype(np.float32)
    model = Model(module=net.eval(), device=torch.device("cpu"), input_range=(0.0, 1.0))
    space = Space(
        scale="input",
        unit=np.ones(2, np.float32),
        low=np.zeros(2, np.float32),
        high=np.ones(2, np.float32),
        epsilons=(0.1,),
    )
    return model, points, space, (points @ np.array([3.0, 4.0]) > 3.5).astype(np.int64)


def test_deepfool_finds_the_distance_to_a_line():
    """The distance is |3 a + 4 b - 3.5| / 5."""
    model, points, space, labels = line()
    side = points @ np.array([3.0, 4.0]) - 3.5
    target = Target(model, points, labels, np.arange(40), np.ones(40, bool), space, 0)
    found = run(target, "DeepFool", "tabular", epsilons=(0.0, 0.05), epsilon=0.02)  # the paper's overshoot
    true = 1.02 * np.abs(side) / 5
    np.testing.assert_allclose(found.distances, true, rtol=2e-3, atol=1e-5)
    near = found.attack.at_epsilon(0.05).fooled
    sure = np.abs(true - 0.05) > 1e-3
    np.testing.assert_array_equal(near[sure], (true < 0.05)[sure])
    assert near.any()
    assert not near.all()


def test_points_on_the_boundary_itself_do_not_count():
    """ART's own overshoot, a millionth, is lost in float32: the library would report these rows as fooled."""
    model, points, space, labels = line()
    target = Target(model, points, labels, np.arange(40), np.ones(40, bool), space, 0)
    found = run(target, "DeepFool", "tabular", epsilons=(0.0, 1.0))
    moved = adapter._generated(target, np.arange(40), attack("DeepFool"), None)
    assert (np.abs(moved @ np.array([3.0, 4.0]) - 3.5) < 1e-5).all()
    assert 0 < np.isinf(found.distances).sum() < 40


def test_epsilon_counts_standard_deviations_where_the_space_does():
    target = build("tabular", scaled=True)
    found = run(target, "ProjectedGradientDescent", "tabular", epsilons=(0.0, 2.0))
    assert found.attack.at[-1].fooled.any()
    judged_by_hand(target, found)
    entry = found.attack.at[-1]
    moved = np.abs(entry.examples - target.inputs[target.rows[entry.kept]]) / target.space.unit
    assert moved.max() > 1.9


@pytest.mark.parametrize(
    "name", ["FastGradientMethod", "ProjectedGradientDescent", "HopSkipJump", "DeepFool"]
)
def test_fixed_columns_stay_as_they_are(name):
    target = build("tabular", scaled=True, fixed=True)
    found = run(target, name, "tabular", epsilons=(0.0, 8.0))
    assert found.attack.at[-1].fooled.any()
    assert sum(found.rejected.values()) == 0
    judged_by_hand(target, found)


def test_an_attack_that_moves_fixed_columns_is_caught_and_counted():
    """BoundaryAttack knows no mask: what it finds is rejected, none counts."""
    target = build("tabular", scaled=True, fixed=True)
    found = run(target, "BoundaryAttack", "tabular", epsilons=(0.0, 100.0))
    assert found.rejected["outside epsilon"] == target.correct.sum()
    assert not found.attack.at[-1].fooled.any()
    assert np.isinf(found.distances).all()


def test_what_the_library_returns_is_only_a_claim(image, monkeypatch):
    """A library that leaves the ball and the range, and one that returns what is no number."""
    plain = adapter._generated
    monkeypatch.setattr(adapter, "_generated", lambda *given: plain(*given) + np.float32(5))
    far = run(image, "FastGradientMethod").attack.at[-1]
    assert not far.fooled.any()
    assert far.rejected["outside epsilon"] > 0
    monkeypatch.setattr(adapter, "_generated", lambda *given: plain(*given) * np.float32(np.nan))
    assert not run(image, "DeepFool").attack.at[-1].fooled.any()


def test_a_targeted_attack_aims_at_the_likeliest_wrong_class(image):
    scores = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]], np.float32)
    asked = ArtAttack(name="FastGradientMethod", norm="linf", arguments={"targeted": True})
    assert adapter._aim(asked, scores, np.array([0, 1])).tolist() == [2, 2]
    assert adapter._aim(attack("FastGradientMethod"), scores, np.array([0, 1])).tolist() == [0, 1]
    found = run(image, "FastGradientMethod", targeted=True, epsilons=(0.0, 0.4))
    assert found.attack.at[-1].fooled.any()


@pytest.mark.parametrize("name", ["HopSkipJump", "SquareAttack", "BoundaryAttack"])
def test_a_run_repeats_and_disturbs_no_generator(image, name):
    states = (np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate())  # noqa: NPY002 - ART uses it
    first = run(image, name, epsilons=(0.0, 2.0)).attack.at[-1]
    assert (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])
    assert random.getstate() == states[2]
    np.random.seed(99)  # noqa: NPY002
    second = run(image, name, epsilons=(0.0, 2.0)).attack.at[-1]
    np.testing.assert_array_equal(first.examples, second.examples)
    assert len(first.examples)
    assert np.random.RandomState is not adapter._Seeded


def test_passes_are_counted_as_the_network_sees_them(image):
    seen = []
    handle = image.model.module.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    forward, backward = image.model.passes.forward, image.model.passes.backward
    found = run(image, "ProjectedGradientDescent", epsilons=(0.3,))
    handle.remove()
    assert sum(seen) == image.model.passes.forward - forward == found.attack.forward_rows
    assert found.attack.backward_rows == image.model.passes.backward - backward
    assert found.attack.backward_rows == 10 * image.correct.sum()  # ten steps, one gradient each


def test_nothing_is_printed_or_logged(image, capfd, caplog):
    run(image, "BoundaryAttack")
    run(image, "UniversalPerturbation")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_arguments_that_art_refuses_are_told_in_one_sentence(image):
    with pytest.raises(ConfigError, match="ART refuses the arguments of DeepFool: "):
        run(image, "DeepFool", max_iter=-1)


def test_a_model_without_gradients_gets_the_attacks_that_need_none(image):
    blind = Model(
        module=image.model.module,
        device=torch.device("cpu"),
        input_range=(0.0, 1.0),
        capabilities=frozenset({"logits"}),
        ruled_out=("It is compiled.",),
    )
    target = Target(blind, image.inputs, image.labels, image.rows, image.correct, image.space, 0)
    with pytest.raises(NotApplicable, match=r"needs gradients of the model: It is compiled\."):
        run(target, "DeepFool")
    assert run(target, "SquareAttack", epsilons=(0.0, 0.5)).attack.at[-1].fooled.any()


def test_a_model_changed_by_the_library_is_noticed(image, monkeypatch):
    class Meddling(adapter._Scores):
        def forward(self, inputs):
            self.held[0].module[1].bias.data.add_(1.0)
            return super().forward(inputs)

    bias = image.model.module[1].bias.data.clone()
    monkeypatch.setattr(adapter, "_Scores", Meddling)
    with pytest.raises(RuntimeError, match="left the model changed"):
        run(image, "FastGradientMethod")
    image.model.module[1].bias.data.copy_(bias)


def test_nothing_correct_means_nothing_to_attack(image):
    none = np.zeros(12, dtype=bool)
    target = Target(image.model, image.inputs, image.labels, image.rows, none, image.space, 0)
    for name in ("DeepFool", "FastGradientMethod"):
        assert not run(target, name).attack.at[-1].fooled.any()
    assert bounded("FastGradientMethod")
    assert not bounded("DeepFool")
