"""Whatever a check does, a finding comes of it, and never a pass by accident."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from audit.check import check
from audit.checks.fairness.groups import groups
from audit.checks.fairness.ll144 import ll144
from audit.checks.fairness.representation import representation
from audit.checks.performance.accuracy import accuracy
from audit.dataset import Dataset, Sensitive
from audit.errors import NotApplicable, NotEvaluable
from audit.evidence import Evidence, Figure, Measure, Table
from audit.load import no_model
from audit.measure import fitting, is_untouched, measure, set_up
from audit.model import Model
from audit.policy import Limit, Policy
from audit.products.predictions import predictions
from audit.registry import Broken
from audit.reproducer import Wanted
from audit.stats import proportion


def small_model(**fields):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    return Model(module=network, device=torch.device("cpu"), classes=("a", "b"), input_shape=(3,), **fields)


def small_data(rows=12):
    inputs = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    return Dataset(inputs=inputs, labels=np.arange(rows) % 2, modality="tabular", classes=("a", "b"))


def counted(model, data):
    return {"rows": len(data), "scores": model.predict(data.inputs)}


def bench(model=None, products=None):
    products = {"counted": counted} if products is None else products
    return set_up(model or small_model(), small_data(), 3, products)


def run(function, on=None, folder=None, **fields):
    on = on or bench()
    item = check("sample.check", **fields)(function)
    return measure(item, item.settings({}), on, folder)


def fine(data, model=None):
    """Title."""
    return Evidence(measures=(proportion("accuracy", 3, len(data)),))


def test_evidence_becomes_a_measured_finding():
    finding = run(fine)
    assert (finding.status, finding.measures[0].value) == ("measured", 0.25)


def test_products_are_made_once_and_given_by_name():
    made = []

    def once(model, data):
        made.append(1)
        return counted(model, data)

    def depends(once):
        return once["rows"] * 10

    on = bench(products={"once": once, "depends": depends})

    def asks(once, depends, seed):
        """Title."""
        return Evidence(measures=(Measure(name="n", value=once["rows"] + depends + seed),))

    assert run(asks, on).measures[0].value == 12 + 120 + 3
    assert run(asks, on).status == "measured"
    assert made == [1]


@pytest.mark.parametrize(
    ("products", "words"),
    [
        ({}, "there is no product 'counted'"),
        ({"counted": Broken("counted", "x does not import")}, "x does not import"),
        ({"counted": lambda loop: 1, "loop": lambda counted: 1}, "in a circle: counted > loop"),
    ],
)
def test_a_missing_product_is_a_broken_finding(products, words):
    def asks(counted):
        """Title."""

    finding = run(asks, bench(products=products))
    assert finding.status == "broken"
    assert words in finding.reason


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotApplicable("no groups"), "not_applicable"),
        (NotEvaluable("0 of 0"), "not_evaluable"),
        (ValueError("bad\nlines"), "broken"),
        (MemoryError(), "broken"),
        (SystemExit(0), "broken"),
        (RecursionError("deep"), "broken"),
    ],
)
def test_what_a_check_raises_becomes_its_status(error, status):
    def raises(data):
        """Title."""
        raise error

    finding = run(raises)
    assert finding.status == status
    assert "\n" not in finding.reason
    assert finding.reason
    assert finding.measures == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_nan_is_broken_and_never_a_number(value):
    def odd(data):
        """Title."""
        return Evidence(measures=(Measure(name="x", value=value),))

    finding = run(odd)
    assert finding.status == "broken"
    assert "an undefined value must be None" in finding.reason


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(measures=(Measure(name="x", value=0.5, n=2**60),)),
        Evidence(measures=(Measure(name="\ud800", value=0.5),)),
        Evidence(measures=(Measure(name="x", value=0.5, method="wilson", statistics={"wrong": 1}),)),
        Evidence(measures=(), tables=(Table(name="t", title="T", columns=("a",), rows=((float("nan"),),)),)),
    ],
)
def test_what_could_not_be_written_or_derived_again_is_broken_at_once(evidence):
    def odd(data):
        """Title."""
        return evidence

    assert run(odd).status == "broken"


def test_a_measure_that_a_check_did_not_declare_is_broken_and_names_the_nearest():
    finding = run(fine, measures={"acuracy", "recall"})
    assert (finding.status, finding.measures) == ("broken", ())
    assert finding.reason == (
        "ValueError: the check measured 'accuracy', which it does not declare; the nearest is 'acuracy'"
    )
    assert run(fine, measures={"accuracy", "recall"}).status == "measured"
    assert run(fine).status == "measured", "a check that declares nothing may measure anything"


def test_evidence_of_nothing_is_not_measured():
    def empty(data):
        """Title."""
        return Evidence(measures=())

    assert run(empty).status == "not_evaluable"


@pytest.mark.parametrize("answer", [None, 1.0, {"accuracy": 1.0}])
def test_anything_but_evidence_is_broken(answer):
    def odd(data):
        """Title."""
        return answer

    assert "not Evidence" in run(odd).reason


def change_weight(model):
    with torch.no_grad():
        model.module[0].weight.add_(1e-3)


def change_mode(model):
    model.module.train()


def leave_gradient(model):
    model.module(torch.zeros(2, 3)).sum().backward()


def leave_hook(model):
    model.module[0].register_forward_hook(lambda *_: None)


def move_batch_statistics(model):
    model.module[1].train()
    model.module(torch.randn(8, 3))
    model.module[1].eval()


def replace_forward(model):
    model.module[0].forward = lambda rows: rows


@pytest.mark.parametrize(
    "harm",
    [change_weight, change_mode, leave_gradient, leave_hook, move_batch_statistics, replace_forward],
)
def test_a_check_that_leaves_the_model_changed_is_broken(harm):
    def harmful(model, data):
        """Title."""
        harm(model)
        return fine(data)

    on = bench()
    finding = run(harmful, on)
    assert finding.status == "broken"
    assert "left the model or the data changed" in finding.reason
    assert finding.measures == ()
    assert not is_untouched(on)


def test_a_hook_on_every_module_is_noticed():
    handles = []

    def harmful(data):
        """Title."""
        hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
        handles.append(hook)
        return fine(data)

    assert "left the model or the data changed" in run(harmful).reason
    handles[0].remove()


def test_a_check_that_leaves_the_data_changed_is_broken():
    def harmful(data):
        """Title."""
        data.labels[:] = 0
        return fine(data)

    on = bench()
    assert "left the model or the data changed" in run(harmful, on).reason
    assert not is_untouched(on)


def test_what_a_check_sets_in_torch_does_not_reach_the_next():
    def sets(data):
        """Title."""
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return fine(data)

    def looks(data):
        """Title."""
        assert torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float32
        return fine(data)

    on = bench()
    run(sets, on)
    assert run(looks, on).status == "measured"


def test_a_gradient_taken_on_the_input_leaves_the_model_alone():
    def gentle(model, data):
        """Title."""
        model.input_gradient(model.tensor(data.inputs), lambda scores: scores[:, 0])
        return fine(data)

    finding = run(gentle)
    assert finding.status == "measured"
    assert (finding.cost.forward_rows, finding.cost.backward_rows) == (12, 12)
    assert finding.cost.overhead > 0


@pytest.mark.parametrize(
    ("fields", "model", "words"),
    [
        ({"needs": {"gradients"}}, {"capabilities": frozenset({"logits"}), "ruled_out": ("It rounds.",)},
         "it needs gradients of the model: It rounds."),
        ({}, {"capabilities": frozenset(), "ruled_out": ("It is random.",)},
         "it needs logits of the model: It is random."),
        ({"modality": {"image"}}, {}, "it is made for image inputs; these are tabular"),
        ({}, {"task": "regression"}, "it is made for classification; this model's task is regression"),
    ],
)  # fmt: skip
def test_a_check_that_does_not_fit_says_why(fields, model, words):
    finding = run(fine, bench(small_model(**model)), **fields)
    assert (finding.status, finding.reason) == ("not_applicable", words)


def test_without_a_model_only_checks_of_data_and_predictions_fit():
    def decided(data, predictions, seed):
        """Title."""

    def networked(data, attributions):
        """Title."""

    stand_in = no_model("score", small_data())
    assert fitting(check("x.decided")(decided), stand_in, small_data()) == ""
    assert "No model was run" in fitting(check("x.networked")(networked), stand_in, small_data())
    needy = check("x.needy", needs={"gradients"})(decided)
    assert "it needs gradients of the model: No model was run" in fitting(needy, stand_in, small_data())
    lost = small_model(capabilities=frozenset())
    assert "it needs logits" in fitting(check("x.decided")(decided), lost, small_data())


def test_nothing_is_timed_where_no_model_is_run():
    assert bench(no_model("score", small_data())).row_seconds == (0.0, 0.0)


def test_numpy_numbers_and_arrays_reach_the_record_and_the_disk(tmp_path):
    def arrays(data):
        """Title."""
        figure = Figure(name="f", title="F", kind="heatmaps", alt="a", data={"images": "i", "values": "v"})
        return Evidence(
            measures=(Measure(name="x", value=np.float32(0.5), n=np.int64(3)),),
            figures=(figure,),
            arrays={"i": np.zeros((1, 2, 2), np.uint8), "v": np.ones((1, 2, 2), np.float32)},
        )

    finding = run(arrays, folder=tmp_path)
    assert (finding.measures[0].value, finding.measures[0].n) == (0.5, 3)
    (artifact,) = finding.artifacts
    assert np.load(tmp_path / artifact.path)["v"].sum() == 4
    assert run(arrays).figures == ()


def test_arrays_give_the_same_bytes_every_time(tmp_path):
    def arrays(data):
        """Title."""
        return Evidence(measures=fine(data).measures, arrays={"v": np.arange(1000.0)})

    hashes = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        hashes.add(run(arrays, folder=tmp_path / name).artifacts[0].sha256)
    assert len(hashes) == 1


def test_randomness_starts_anew_for_each_check():
    def draws(data):
        """Title."""
        return Evidence(measures=(Measure(name="x", value=float(torch.rand(1) + np.random.rand())),))  # noqa: NPY002

    on = bench()
    assert run(draws, on).measures[0].value == run(draws, on).measures[0].value


def counted_people(people, rows=12, **fields):
    """Lines of a table of counts: sex, race, outcome and decision, and how many people each stands for."""
    random = np.random.default_rng(1)
    parts = {
        name: Sensitive(name=name, groups=names, codes=random.integers(0, len(names), rows))
        for name, names in (("sex", ("F", "M")), ("race", ("A", "B", "unknown")))
    }
    known = {"decisions": random.integers(0, 2, rows), "labels": random.integers(0, 2, rows)} | fields
    return Dataset(
        inputs=np.zeros((rows, 0), np.float32), modality="tabular", classes=("no", "yes"), favourable=1,
        sensitive=parts, people=np.array(people, dtype=np.int64), **known,
    )  # fmt: skip


def stated(data):
    return set_up(no_model("decision", data), data, 0, {"predictions": predictions})


def test_twenty_million_people_in_twelve_lines_are_measured_as_twelve_rows():
    people = [2_000_000] * 9 + [1_999_999, 1, 1]
    on = stated(counted_people(people))
    assert on.data.size > 19_000_000
    for item in (groups, ll144, representation):
        finding = measure(item, item.settings({}), on, None)
        assert finding.status == "measured", finding.reason
        sizes = [m.n for m in finding.measures if m.name == "share" or m.group == {"sex": "F"}]
        assert max(sizes) > 1_000_000
    assert "written_out" not in vars(on)
    arrays = [on.data.inputs, on.data.people, on.data.decisions, *vars(on.made["predictions"]).values()]
    assert {len(item) for item in arrays} == {12}


@pytest.mark.parametrize("item", [groups, ll144, representation], ids=lambda item: item.name)
@pytest.mark.parametrize("scored", [False, True])
def test_a_check_that_weighs_measures_what_it_would_of_all_the_rows(item, scored):
    random = np.random.default_rng(2)
    scores = {"scores": random.random(40), "missing": {"x": random.random(40) < 0.3}} if scored else {}
    on = stated(counted_people(random.integers(1, 30, 40), rows=40, **scores))
    settings = {"mode": "scoring"} if item is ll144 and scored else {}
    settings |= {"control": ("race",)} if item is groups else {}
    found = measure(item, item.settings(settings), on, None)
    by_hand = measure(replace(item, weighted=False), item.settings(settings), on, None)
    assert found.status == by_hand.status == "measured"
    assert found.measures == by_hand.measures
    assert found.tables == by_hand.tables
    assert found.caveats == by_hand.caveats
    assert len(on.written_out.data) == on.data.size


@pytest.mark.parametrize("median_of", ["all", "known"])
def test_the_median_of_people_is_that_of_their_scores_one_after_the_other(median_of):
    """An even number of people whose two middle ones have different scores, and some of unknown race."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        scores = np.round(random.random(8), 1)
        on = stated(counted_people(random.integers(1, 4, 8), rows=8, scores=scores))
        settings = ll144.settings({"mode": "scoring", "median_of": median_of})
        found = measure(ll144, settings, on, None)
        assert found.caveats == measure(replace(ll144, weighted=False), settings, on, None).caveats
        if median_of == "all":
            median = np.median(np.repeat(scores, on.data.people))
            assert f"The median score of all people is {median:.6g}." in " ".join(found.caveats)


def test_the_accuracy_of_a_model_counts_people():
    rows = small_data(30)
    people = np.random.default_rng(3).integers(1, 6, 30)
    sex = Sensitive(name="sex", groups=("F", "M"), codes=np.arange(30) % 3 % 2)
    data = Dataset(**{**vars(rows), "people": people, "sensitive": {"sex": sex}})
    on = set_up(small_model(), data, 0, {"predictions": predictions})
    found = measure(accuracy, accuracy.settings({}), on, None)
    assert found.cost.forward_rows == 30
    by_hand = measure(replace(accuracy, weighted=False), accuracy.settings({}), on, None)
    assert by_hand.cost.forward_rows == people.sum() == found.measures[0].n
    assert found.measures == by_hand.measures
    assert found.tables == by_hand.tables


def rows_seen(data, counted):
    """Title."""
    return Evidence(
        measures=(
            Measure(name="rows", value=float(len(data))),
            Measure(name="product", value=float(counted["rows"])),
        )
    )


def test_any_other_check_sees_a_row_for_each_person_and_products_of_its_own():
    data = Dataset(**{**vars(small_data(3)), "people": np.array([3, 1, 2])})
    on = set_up(small_model(), data, 0, {"counted": counted})
    for weighted, rows in ((False, 6), (True, 3), (False, 6)):
        finding = run(rows_seen, on, weighted=weighted)
        assert [m.value for m in finding.measures] == [rows, rows]
    assert on.written_out.data.inputs.tolist() == np.repeat(data.inputs, [3, 1, 2], axis=0).tolist()
    assert on.written_out.made["counted"]["rows"] == 6
    plain = bench()
    assert plain.written_out is plain


def length(data):
    """Title."""
    return Evidence(measures=(Measure(name="rows", value=float(len(data))),))


def test_more_people_than_are_written_out_are_a_reason_and_no_memory():
    on = stated(counted_people([2_000_000] * 12))
    finding = run(length, on)
    assert finding.status == "not_applicable"
    assert "it looks at a row for each person, and the data count 24,000,000 people" in finding.reason
    assert "written_out" not in vars(on)


@pytest.mark.parametrize(("width", "status"), [(100, "measured"), (101, "not_applicable")])
def test_wide_rows_are_written_out_for_fewer_people(monkeypatch, width, status):
    monkeypatch.setattr("audit.measure._MOST_NUMBERS", 1_200)
    data = counted_people([4, 4, 4], 3)
    wide = Dataset(**{**vars(data), "inputs": np.zeros((3, width), np.float32)})
    on = set_up(no_model("decision", wide), wide, 0, {})
    assert run(length, on).status == status


@pytest.mark.parametrize("weighted", [False, True])
def test_a_change_of_counted_data_is_noticed_in_the_rows_and_in_the_people(weighted):
    data = Dataset(**{**vars(small_data(3)), "people": np.array([3, 1, 2])})
    on = set_up(small_model(), data, 0, {})
    assert on.written_out is not on

    def harm(data):
        """Title."""
        changed = data.people if weighted else data.inputs
        changed.flags.writeable = True
        changed[0] += 1
        return fine(data)

    finding = run(harm, on, weighted=weighted)
    assert finding.status == "broken"
    assert "left the model or the data changed" in finding.reason
    assert not is_untouched(on)


def test_a_broken_limit_keeps_rows_and_changes_neither_numbers_nor_passes(tmp_path):
    def passes(on):
        return on.model.passes.forward, on.model.passes.backward

    limit = Limit(check="performance.accuracy", measure="accuracy", at_least=0.99)
    wanted = Wanted(policy=Policy(limits=(limit,)), config={}, folder=Path())
    plain, keeping = (bench(products={"predictions": predictions}) for _ in range(2))
    keeping = replace(keeping, wanted=wanted)
    bare = measure(accuracy, {}, plain, tmp_path / "bare")
    kept = measure(accuracy, {}, keeping, tmp_path / "kept")
    assert kept.measures == bare.measures
    assert passes(keeping) == passes(plain)
    assert kept.cost.forward_rows == bare.cost.forward_rows
    assert kept.artifacts[-len(bare.artifacts) :] == bare.artifacts
    assert [Path(item.path).name for item in kept.artifacts[:2]] == ["replay.json", "tensors.npz"]
    assert is_untouched(keeping)
    assert measure(accuracy, {}, keeping, None).artifacts == ()


def test_a_reproducer_that_cannot_be_kept_spoils_no_number(tmp_path):
    limit = Limit(check="performance.accuracy", measure="accuracy", at_least=0.99)
    wanted = Wanted(policy=Policy(limits=(limit,)), config={}, folder=Path())
    on = replace(bench(products={"predictions": predictions}), wanted=wanted)
    good = measure(accuracy, {}, on, tmp_path)
    name = Path(good.artifacts[0].path).parent.name
    for file in (tmp_path / "artifacts" / name).iterdir():
        file.unlink()
    (tmp_path / "artifacts" / name).rmdir()
    (tmp_path / "artifacts" / name).write_text("a file where the folder should be")
    finding = measure(accuracy, {}, on, tmp_path)
    assert finding.status == "measured"
    assert finding.measures == good.measures
    assert finding.caveats[-1].startswith("No reproducer of a broken limit could be kept: FileExistsError")
