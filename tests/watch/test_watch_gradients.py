"""`logger.watch(model)`: what is measured, when, and that nothing happens in between."""

import gc
import math

import pytest

torch = pytest.importorskip("torch")

from ridgepole.loggers.composite import LoggerGroup, NullLogger  # noqa: E402
from ridgepole.permanences import BasicLogger  # noqa: E402
from ridgepole.watch import gradients  # noqa: E402


class Keeps(NullLogger):
    """Keeps what it is given."""

    strict = True

    def __init__(self):
        self.metrics, self.histograms = [], {}

    watch = BasicLogger.watch

    def log_metrics(self, metrics, *, step=None):
        self.metrics.append({record.name: (record.step, record.value) for record in self.resolve(metrics, step)})

    def _log_histogram(self, name, histogram, step):
        self.histograms.setdefault(name, []).append((step, histogram))


def train(model, steps, logger=None, lr=0.1):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(4, 3)).sum().backward()
        optimizer.step()
        if logger is not None:
            logger.log_metrics({"loss": 1.0})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2))


def test_norms_are_those_of_the_gradients_parameters_and_updates(model):
    logger = Keeps()
    logger.watch(model, every=3)
    train(model, 7, logger)
    watched = [values for values in logger.metrics if "loss" not in values]
    assert len(watched) == 3, "the steps 1, 4 and 7"
    assert [values["model/gradients_norm"][0] for values in watched] == [0, 2, 5]
    assert logger.global_step == 7, "it moves no step"
    last = {name: value for name, (_, value) in watched[-1].items()}
    gradient = math.sqrt(6 * 16 + 2 * 16)  # each weight and bias has 4
    assert last["model/gradients_norm"] == pytest.approx(gradient)
    assert last["gradients/0.bias/norm"] == pytest.approx(math.sqrt(32))
    assert last["model/updates_norm"] == pytest.approx(0.1 * gradient, rel=1e-4)
    norm = math.sqrt(sum(float(parameter.detach().norm()) ** 2 for parameter in model.parameters()))
    assert last["model/parameters_norm"] == pytest.approx(norm)
    assert last["model/update_ratio"] == pytest.approx(0.1 * gradient / norm, rel=1e-4)
    assert logger.histograms.keys() == {
        f"{kind}/0.{name}" for kind in ("gradients", "parameters", "updates") for name in ("weight", "bias")
    }
    step, histogram = logger.histograms["parameters/0.weight"][-1]
    assert (step, sum(histogram.counts), len(histogram.edges)) == (5, 6, gradients.BINS + 1)
    weights = model[0].weight.detach()
    assert (histogram.edges[0], histogram.edges[-1]) == pytest.approx((float(weights.min()), float(weights.max())))


def test_between_the_measured_steps_nothing_is_computed(model, monkeypatch):
    logger = Keeps()
    logger.watch(model, every=1000, histograms=False)
    train(model, 1)
    assert (len(logger.metrics), logger.histograms) == (1, {})
    monkeypatch.setattr(gradients, "_plain", lambda _tensor: 1 / 0)
    monkeypatch.setattr(gradients, "_numbers", lambda _tensors: 1 / 0)
    train(model, 50)
    assert len(logger.metrics) == 1


def test_other_models_and_frozen_parameters_are_left_alone(model):
    logger = Keeps()
    model[0].bias.requires_grad_(False)
    logger.watch(model, every=1)
    train(torch.nn.Sequential(torch.nn.Linear(3, 2)), 2)
    assert logger.metrics == []
    train(model, 1)
    assert "gradients/0.weight/norm" in logger.metrics[0]
    assert "gradients/0.bias/norm" not in logger.metrics[0]


def test_values_that_are_not_finite_are_in_the_norm_and_in_no_bin(model):
    logger = Keeps()
    logger.watch(model, every=1)
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
        model[0].weight[0, 1] = math.inf
    train(model, 1)
    assert math.isnan(logger.metrics[0]["model/parameters_norm"][1])
    _, histogram = logger.histograms["parameters/0.weight"][0]
    assert sum(histogram.counts) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64])
def test_gradients_of_any_type_are_measured(dtype):
    tensor = torch.ones(4, dtype=dtype)
    assert gradients.norms({"gradients/a": gradients._plain(tensor).float()})["gradients/a/norm"] == 2.0


def test_a_sparse_gradient_is_measured_by_its_values():
    model = torch.nn.Embedding(100, 2, sparse=True)
    logger = Keeps()
    logger.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.tensor([3, 3])).sum().backward()
    optimizer.step()
    assert logger.metrics[0]["gradients/weight/norm"][1] == pytest.approx(math.sqrt(8))


def test_a_gradient_that_a_scaler_has_scaled_is_scaled_back(model):
    logger = Keeps()
    logger.watch(model, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    (8 * model(torch.ones(4, 3)).sum()).backward()
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    optimizer.step()
    assert logger.metrics[0]["gradients/0.bias/norm"][1] == pytest.approx(math.sqrt(32))


def test_it_ends_with_the_logger(model, tmp_path):
    logger = BasicLogger(tmp_path)
    group = LoggerGroup([logger])
    group.watch(model, every=1)
    train(model, 1)
    assert logger.metric_names()[0].startswith("model/")
    logger.cleanup()
    train(model, 1)  # logs nothing, and nothing raises
    kept = Keeps()
    kept.watch(model, every=1)
    del kept
    gc.collect()
    train(model, 1)


def test_a_rank_without_a_record_watches_nothing(model):
    logger = NullLogger()
    logger.watch(model, every=1)
    train(model, 1)
    assert logger.last_step == 0


def test_bad_arguments_are_errors(model):
    with pytest.raises(TypeError, match=r"watch takes a torch.nn.Module, not list"):
        Keeps().watch([])
    for every in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="every must be a number of steps of at least 1"):
            Keeps().watch(model, every=every)
