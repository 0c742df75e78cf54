"""Telling foreign inputs: numbers by scikit-learn, inputs made as described, files read or refused."""

import numpy as np
import pytest
import torch
from networks import LeNet
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from audit.checks.reliability.ood import ood, read_foreign
from audit.dataset import Dataset, Feature
from audit.errors import LoadError, NotEvaluable
from audit.model import Model
from audit.record import plain
from audit.stats import METHODS


def model(module=None, **fields):
    return Model(
        module=module or nn.Identity(), device=torch.device("cpu"), classes=("a", "b", "c"), **fields
    )


def table(rows=500, seed=0):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 3, rows)
    inputs = np.eye(3)[codes] * 4 + random.normal(0, 1, (rows, 3))
    return Dataset(
        inputs=inputs.astype(np.float32), labels=codes, modality="tabular", classes=("a", "b", "c")
    )


def run(network, data, folder=None, seed=1, **settings):
    return ood.measure(network, data, seed, folder, **ood.settings(settings))


def only(evidence, name, score, foreign, **where):
    (found,) = [
        m for m in evidence.measures
        if m.name == name and dict(m.settings) == {"score": score, "foreign": foreign, **where}
    ]  # fmt: skip
    return found


def test_numbers_are_those_of_scikit_learn(tmp_path):
    data = table()
    strange = np.random.default_rng(3).normal(0, 1, (300, 3)).astype(np.float32)
    np.savez(tmp_path / "foreign.npz", inputs=strange)
    evidence = run(model(), data, tmp_path, foreign="foreign.npz")
    truth = np.repeat([1, 0], [500, 300])
    both = torch.tensor(np.concatenate([data.inputs, strange])).double()
    scores = {
        "max_softmax": both.softmax(dim=1).amax(dim=1),
        "max_logit": both.amax(dim=1),
        "energy": both.logsumexp(dim=1),
    }
    for name, values in scores.items():
        found = only(evidence, "auroc", name, "foreign file")
        assert found.value == pytest.approx(roc_auc_score(truth, values.numpy()), abs=1e-9)
        assert 0.5 < found.low < found.value < found.high < 1
        false, true, _ = roc_curve(truth, values.numpy(), drop_intermediate=False)
        rate = only(evidence, "false_positive_rate", name, "foreign file", true_positive_rate=0.95)
        assert rate.value == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-9)
        assert rate.low <= rate.value <= rate.high


def test_foreign_rows_like_the_data_are_not_told_and_others_are(tmp_path):
    np.savez(tmp_path / "same.npz", inputs=table(seed=9).inputs)
    same = only(run(model(), table(), tmp_path, foreign="same.npz"), "auroc", "max_softmax", "foreign file")
    assert same.low < 0.5 < same.high
    np.savez(tmp_path / "zeros.npz", x=np.zeros((50, 3)))
    far = only(run(model(), table(), tmp_path, foreign="zeros.npz"), "auroc", "max_softmax", "foreign file")
    assert far.low > 0.9


def test_shuffled_tables_keep_every_feature_and_lose_their_rows():
    data = table()
    features = (Feature(name="pair", columns=(0, 1)), Feature(name="third", columns=(2,)))
    data = Dataset(**{**vars(data), "features": features})
    seen = []

    class Watch(nn.Module):
        def forward(self, rows):
            seen.append(rows.clone().numpy())
            return rows

    network = model(Watch())
    network.passes.batch = 500
    run(network, data, rows=500)
    known, _, noise, shuffled = seen
    assert np.array_equal(known, data.inputs)
    assert (noise.min(axis=0) >= known.min(axis=0)).all()
    assert (noise.max(axis=0) <= known.max(axis=0)).all()
    assert not np.array_equal(shuffled, known)
    assert sorted(map(tuple, shuffled[:, :2])) == sorted(map(tuple, known[:, :2]))
    assert sorted(shuffled[:, 2]) == sorted(known[:, 2])
    assert sorted(map(tuple, shuffled)) != sorted(map(tuple, known))


def test_shuffled_images_keep_the_pixels_of_each_row_and_channels_together():
    random = np.random.default_rng(0)
    images = random.random((20, 3, 8, 8)).astype(np.float32)
    data = Dataset(inputs=images, labels=np.zeros(20, np.int64), modality="image", classes=("a", "b", "c"))
    seen = []

    class Watch(nn.Module):
        def forward(self, rows):
            seen.append(rows.clone().numpy())
            return rows.mean(dim=(2, 3))

    run(model(Watch(), input_range=(0.0, 1.0)), data)
    known, _, noise, shuffled = seen
    assert 0 <= noise.min() < 0.1
    assert 0.9 < noise.max() <= 1
    for before, after in zip(known, shuffled, strict=True):
        columns = sorted(map(tuple, before.reshape(3, -1).T))
        assert sorted(map(tuple, after.reshape(3, -1).T)) == columns
        assert not np.array_equal(before, after)


def test_lenet_tells_noise_from_digits_and_has_no_energy(shared_data):
    network = LeNet()
    network.load_state_dict(
        torch.load(shared_data / "mnist" / "lenet.pth", map_location="cpu", weights_only=True)
    )
    stored = np.load(shared_data / "mnist" / "mnist_test.npz")
    data = Dataset(
        inputs=(stored["images"][:300, None] / 255).astype(np.float32), modality="image",
        labels=stored["labels"][:300].astype(np.int64), classes=tuple(map(str, range(10))),
    )  # fmt: skip
    lenet = model(network.eval(), output="log_probabilities", input_range=(0.0, 1.0))
    evidence = run(lenet, data)
    assert {m.settings["score"] for m in evidence.measures} == {"max_softmax"}
    assert only(evidence, "auroc", "max_softmax", "uniform noise").low > 0.9
    assert only(evidence, "auroc", "max_softmax", "gaussian_noise, severity 5").value < 0.7
    assert "'gaussian_noise, severity 5' least" in evidence.figures[0].title


def test_every_number_can_be_derived_again():
    for item in run(model(), table()).measures:
        assert METHODS[item.method](plain(item.statistics), 0.95) == (item.value, item.low, item.high)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"rows": np.zeros((4, 3))}, "holds rows"),
        ({"inputs": np.zeros((4, 5))}, r"shape \[4, 5\]"),
        ({"inputs": np.zeros((0, 3))}, "at least one row"),
        ({"inputs": np.full((4, 3), np.nan)}, "12 foreign values are not finite"),
        ({"inputs": np.full((4, 3), 9.0)}, "outside the model's input_range"),
        ({"inputs": np.array([["a"]])}, "a model needs rows of numbers"),
        ({"inputs": np.array([[{}]])}, "not a readable .npz"),
    ],
)
def test_foreign_files_that_do_not_fit_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "foreign.npz", **arrays)
    with pytest.raises(LoadError, match=said):
        read_foreign(tmp_path / "foreign.npz", table(), model(input_range=(-8.0, 8.0)))


def test_files_that_are_no_archives_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    for name in ("text.npz", "plain.npy", "absent.npz"):
        with pytest.raises(LoadError, match=name):
            read_foreign(tmp_path / name, table(), model())


def test_grey_and_8_bit_images_become_those_of_the_data(tmp_path):
    data = Dataset(inputs=np.zeros((2, 1, 8, 8), np.float32), modality="image", classes=())
    np.savez(tmp_path / "foreign.npz", images=np.full((5, 8, 8), 255, np.uint8))
    found = read_foreign(tmp_path / "foreign.npz", data, model(input_range=(0.0, 1.0)))
    assert found.shape == (5, 1, 8, 8)
    assert found.max() == 1


def test_scores_that_are_no_numbers_are_counted_or_end_it():
    data = table(100)
    data.inputs[:4] = np.nan
    with pytest.raises(NotEvaluable):
        run(model(), Dataset(**{**vars(data), "inputs": np.full((100, 3), np.nan, np.float32)}),
            corruption="rounding")  # fmt: skip
    evidence = run(model(), data, corruption="rounding")
    assert any("4 of 'rows of the data'" in text for text in evidence.caveats)
