"""Temperatures: a known over-confidence is found, and all fast paths have it."""

import numpy as np
import pytest
import torch
from scipy import optimize

from models import MLP, MLPConfig
from models.held_out import draw
from models.mlp import divide
from models.sampling import make_plan, predict
from models.settling import PRIOR_SPREAD, fit_temperature, settle
from models.table import softmax
from models.trace import trace_dropout
from models.training_run import Split


def labels_of(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """Classes drawn from softmax(logits)."""
    uniforms = np.random.default_rng(seed).random((len(logits), 1))
    return (softmax(logits).cumsum(axis=1) > uniforms).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_over_confidence_is_found(temperature: float) -> None:
    """Logits that are the true ones times a factor; 20,000 rows make the estimate's relative
    standard error about 1 %."""
    logits = np.random.default_rng(0).normal(size=(20_000, 3)) * 2.0
    found = fit_temperature(logits[None] * temperature, labels_of(logits))
    assert found == pytest.approx(temperature, rel=0.05)


def test_the_temperature_of_a_mean_over_samples_is_the_most_likely_one() -> None:
    """Against SciPy's minimiser of the same likelihood and prior."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20, 300, 4)) * 3.0
    truth = labels_of(logits.mean(axis=0))

    def loss(log_temperature: float) -> float:
        p = softmax(logits / np.exp(log_temperature)).mean(axis=0)
        nll = -np.log(p[np.arange(300), truth]).sum()
        return nll + 0.5 * (log_temperature / PRIOR_SPREAD) ** 2

    best = optimize.minimize_scalar(loss, bounds=(-2.3, 2.3), method="bounded").x
    assert fit_temperature(logits, truth) == pytest.approx(np.exp(best), rel=0.012)


def test_few_rows_that_are_all_right_do_not_sharpen_without_end() -> None:
    """Without the prior the most likely temperature would be 0."""
    logits = np.tile([2.0, 0.0], (1, 10, 1))
    found = fit_temperature(logits, np.zeros(10, int))
    assert 0.5 < found < 0.9
    # Nor do rows that say nothing of it.
    assert fit_temperature(np.zeros((1, 50, 3)), np.zeros(50, int)) == pytest.approx(1.0, abs=0.02)


@pytest.fixture(params=["bernoulli", "gaussian", "concrete", "dropconnect"])
def network(request: pytest.FixtureRequest) -> MLP:
    torch.manual_seed(0)
    config = MLPConfig(5, 3, (24, 16), dropout=request.param, p=0.3, head="classification")
    net = MLP(config)
    with torch.no_grad():
        net.linears[-1].weight *= 6.0  # sure of itself
    return net.eval()


@pytest.fixture
def rows() -> Split:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(400, 5, generator=generator)
    return Split(x, torch.randint(0, 3, (400,), generator=generator))


def test_both_modes_are_divided_by_their_temperatures(network: MLP, rows: Split) -> None:
    settled = settle(network, rows)
    of_eval, of_mean = settled.temperatures["eval_mode"], settled.temperatures["mc_mode"]
    assert min(of_eval, of_mean) > 1.5  # labels by chance: any confidence is too much
    assert of_eval != of_mean
    x = rows.x[:20]
    with torch.no_grad():
        before, after = network(x), settled.network(x)
        torch.testing.assert_close(after, before / of_eval)
        torch.manual_seed(2)
        before = network.train()(x)
        torch.manual_seed(2)
        after = settled.network.train()(x)
    torch.testing.assert_close(after, before / of_mean)
    plans = make_plan(network), make_plan(settled.network)
    np.testing.assert_allclose(draw(plans[1], x), draw(plans[0], x) / of_mean, atol=1e-5)


def test_the_fast_paths_have_the_eval_temperature(network: MLP, rows: Split) -> None:
    settled = settle(network, rows).network.eval()
    plan, x = make_plan(settled), rows.x[:20]
    with torch.no_grad():
        torch.testing.assert_close(predict(plan, x), settled(x))
    assert settled.config.eval_temperature != 1.0
    if settled.config.dropout == "dropconnect":
        last = trace_dropout(plan, x[:1], seed=0, n_samples=2).layers[-1]
        expected = predict(plan, x[:1])[0].numpy()
        np.testing.assert_allclose(last.eval_activations, expected, atol=1e-5)


def test_settling_leaves_what_it_was_given_and_can_be_repeated(network: MLP, rows: Split) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = settle(network, rows), settle(network, rows)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.config.eval_temperature == 1.0
    assert first.temperatures == second.temperatures


def test_without_dropout_both_temperatures_are_one_and_the_same(rows: Split) -> None:
    torch.manual_seed(0)
    network = MLP(MLPConfig(5, 3, (16,), p=0.0, head="classification")).eval()
    settled = settle(network, rows)
    assert settled.temperatures["eval_mode"] == settled.temperatures["mc_mode"]
    assert settled.network.config.eval_temperature == 1.0


def test_a_temperature_of_one_costs_nothing() -> None:
    logits = torch.ones(2, 2)
    assert divide(logits, 1.0) is logits
