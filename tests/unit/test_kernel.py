"""What is compiled, against torch and NumPy, which compute the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models import MLP, MLPConfig, estimators, kernel, uncertainty
from models.at_once import summarise_at_once
from models.draw import Draw
from models.estimators import estimate
from models.linearisation import expand
from models.masks import MaskStream, NoiseSite
from models.plan import Plan, make_plan, make_prefix, predict
from models.sampling import draw_block, open_stream, sample
from models.table import Target

pytestmark = pytest.mark.skipif(
    not kernel.is_available(), reason="no compiled kernel: there was no C compiler at install"
)

NETWORKS = {
    "plain": MLPConfig(13, 1, (256, 256), p=0.1),
    "narrow": MLPConfig(3, 1, (5,), p=0.5),
    "linear": MLPConfig(7, 1, (), input_p=0.3),
    "odd widths": MLPConfig(6, 2, (40, 17, 33), p=(0.5, 0.0, 0.2), input_p=0.2),
    "first layers whole": MLPConfig(6, 1, (40, 20), p=(0.0, 0.3)),
    "gaussian": MLPConfig(6, 1, (20, 20), dropout="gaussian", p=0.2),
    "concrete": MLPConfig(6, 1, (20, 20), dropout="concrete", p=0.2),
    "all dropped": MLPConfig(6, 1, (20, 20), p=(1.0, 0.5)),
    "half dropped": MLPConfig(13, 1, (70, 60, 50), p=0.5, input_p=0.5),
    "half of classes dropped": MLPConfig(9, 4, (70, 60, 50), p=0.6, head="classification"),
    "classes": MLPConfig(6, 3, (40, 30), p=0.2, head="classification", eval_temperature=1.5),
    "few dropped": MLPConfig(13, 2, (150, 83, 20), p=(0.1, 0.3, 0.5)),
    "few of classes dropped": MLPConfig(9, 70, (90,), p=0.2, head="classification"),
    "many classes": MLPConfig(6, 37, (40,), p=0.2, input_p=0.1, head="classification"),
}


def both(name: str) -> tuple[Plan, Plan]:
    """The same network with the kernel and without."""
    torch.manual_seed(0)
    plan = make_plan(MLP(NETWORKS[name]))
    assert plan.kernel is not None
    return plan, replace(plan, kernel=None)


def assert_same(found: object, expected: object) -> None:
    torch.testing.assert_close(
        torch.as_tensor(found), torch.as_tensor(expected), rtol=2e-4, atol=2e-5
    )


def drawn(plan: Plan, x: torch.Tensor, n_samples: int) -> list[torch.Tensor]:
    masks = open_stream(plan, 3, n_samples).take(n_samples)
    out = torch.full((n_samples, len(x), plan.config.raw_features), float("nan"))
    draw_block(plan, make_prefix(plan, x), masks, out)
    if plan.config.head == "classification":
        return [out]
    again, conditional = torch.empty_like(out), torch.full((n_samples, len(x), 2), float("nan"))
    draw_block(plan, make_prefix(plan, x), masks, again, conditional)
    torch.testing.assert_close(again, out, rtol=1e-4, atol=1e-5)
    return [out, conditional]


@pytest.mark.parametrize("n_rows", [1, 2, 5, 7, 23, 300])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_says_what_torch_says(name: str, n_rows: int) -> None:
    compiled, reference = both(name)
    x = torch.randn(n_rows, compiled.config.in_features)
    assert_same(predict(compiled, x), predict(reference, x))
    assert_same(make_prefix(compiled, x).activations, make_prefix(reference, x).activations)
    for found, expected in zip(drawn(compiled, x, 11), drawn(reference, x, 11), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_its_linearisation_is_the_same(name: str) -> None:
    compiled, reference = both(name)
    x = torch.randn(6, compiled.config.in_features)
    masks = open_stream(compiled, 0, 9).take(9)
    found, expected = (expand(plan, make_prefix(plan, x)) for plan in (compiled, reference))
    assert_same(found.mean, expected.mean)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-3, atol=1e-6)
    if found.noisy:
        assert_same(found.linear_part(masks), expected.linear_part(masks))


@pytest.mark.parametrize("name", ["plain", "narrow", "first layers whole", "classes"])
@pytest.mark.parametrize("estimator", ["mc", "stratified", "control_variate", "analytic"])
def test_estimates_are_the_same_by_both(
    name: str, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, reference = both(name)
    is_regression = NETWORKS[name].head == "regression"
    target = (
        Target("y", mean=3.0, std=2.0) if is_regression else Target("y", labels=("a", "b", "c"))
    )
    x, draw = torch.randn(4, compiled.config.in_features), Draw(60, 1, estimator, (0.05, 0.5, 0.95))
    found = estimate(compiled, target, x, draw).summary
    monkeypatch.setattr(kernel, "is_available", lambda: False)
    expected = estimate(reference, target, x, draw).summary
    for key, value in vars(expected).items():
        assert_same(getattr(found, key), value)


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "half dropped",
        "half of classes dropped",
        "few dropped",
        "few of classes dropped",
    ],
)
def test_a_row_has_the_same_bits_in_any_company_and_for_any_number_of_threads(name: str) -> None:
    plan, _ = both(name)
    x = torch.randn(300, plan.config.in_features)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        whole, evaluated = sample(plan, x, seed=1, n_samples=40), predict(plan, x)
        torch.set_num_threads(1)
        for rows in (slice(0, 1), slice(7, 10), slice(90, 97), slice(250, 300)):
            assert torch.equal(sample(plan, x[rows], seed=1, n_samples=40), whole[:, rows])
            assert torch.equal(predict(plan, x[rows]), evaluated[rows])
    finally:
        torch.set_num_threads(threads)


def test_quantiles_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    levels = (0.001, 0.05, 0.5, 0.95, 0.999)
    means, stds = rng.standard_cauchy((41, 30)), rng.exponential(size=(41, 30)) + 0.05
    means[:, 0], stds[:, 0] = 1.0, 2.0
    means[:20, 1], means[20:, 1], stds[:, 1] = -1e6, 1e6, 1e-3
    found = uncertainty.mixture_quantiles(means, stds, levels)
    monkeypatch.setattr(kernel, "is_available", lambda: False)
    expected = uncertainty.mixture_quantiles(means, stds, levels)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize(
    "config",
    [MLPConfig(3, activation="tanh"), MLPConfig(3, dropout="dropconnect")],
    ids=lambda config: f"{config.activation}-{config.dropout}",
)
def test_networks_that_it_does_not_know_are_left_to_torch(config: MLPConfig) -> None:
    plan = make_plan(MLP(config))
    assert plan.kernel is None
    assert sample(plan, torch.randn(2, 3), seed=0, n_samples=3).isfinite().all()


def test_what_is_not_a_number_stays_so() -> None:
    plan, _ = both("plain")
    x = torch.zeros(2, 13)
    x[1, 4] = 3e38
    plan.weights[0].mul_(1e4)
    spoilt = kernel.Weights(plan.config, plan.weights, plan.biases)
    outputs = spoilt.predict(x)
    assert outputs[0].isfinite().all()
    assert not outputs[1].isfinite().all()


def test_masks_are_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    units = [
        NoiseSite("bernoulli", p, size) for p, size in ((0.1, 13), (0.0, 5), (1.0, 3), (0.5, 64))
    ]
    for sites in (tuple(units), (NoiseSite("dropconnect", 0.3, 77),)):
        drawn = []
        for is_available in (True, False):
            monkeypatch.setattr(kernel, "is_available", lambda known=is_available: known)
            stream = MaskStream(sites, seed=2**60, first=3)
            drawn.append([*stream.take(4), *stream.take(7)])
        for found, expected in zip(*drawn, strict=True):
            assert (found is None) == (expected is None)
            assert found is None or torch.equal(found, expected)


@pytest.mark.parametrize("name", ["plain", "narrow", "first layers whole", "half dropped"])
@pytest.mark.parametrize("estimator", ["mc", "stratified", "control_variate"])
def test_at_once_it_is_the_same_to_the_bit(
    name: str, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = both(name)
    x, target = torch.randn(6, plan.config.in_features), Target("y", mean=3.0, std=2.0)
    draw = Draw(150, 1, estimator, (0.05, 0.5, 0.95))
    at_once = estimate(plan, target, x, draw).summary
    monkeypatch.setattr(estimators, "summarise_at_once", lambda *_: None)
    in_steps = estimate(plan, target, x, draw).summary
    for key, value in vars(in_steps).items():
        np.testing.assert_array_equal(getattr(at_once, key), value)


@pytest.mark.parametrize(
    "name", ["plain", "narrow", "first layers whole", "half dropped", "few dropped"]
)
@pytest.mark.parametrize("n_rows", [1, 6])
def test_eval_mode_beside_samples_is_eval_mode(name: str, n_rows: int) -> None:
    plan, _ = both(name)
    x = torch.randn(n_rows, plan.config.in_features)
    for estimator in ("mc", "control_variate"):
        plain = estimate(plan, Target("y"), x, Draw(20, 1, estimator)).plain
        np.testing.assert_array_equal(plain, predict(plan, x))


def test_what_was_asked_before_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.at_once.MOST_ASKED", 3)
    plan, _ = both("plain")
    x, target = torch.randn(2, 13), Target("y")
    other = replace(plan, sites=tuple(replace(site, p=site.p / 2) for site in plan.sites))
    draws = [Draw(20, seed, "mc", levels) for seed in range(3) for levels in ((), (0.5,))]
    draws += [Draw(21, 0, "mc"), Draw(20, 0, "stratified"), Draw(20, 0, "control_variate")]
    for draw in [*draws, *draws]:
        for asked in (plan, other):
            found = estimate(asked, target, x, draw).summary
            fresh = estimate(replace(asked), target, x, draw).summary
            for key, value in vars(fresh).items():
                np.testing.assert_array_equal(getattr(found, key), value)
        assert 0 < len(plan.asked) <= 3


def test_what_takes_much_memory_is_not_kept() -> None:
    plan, target = make_plan(MLP(MLPConfig(8, 1, (64,) * 3, dropout="gaussian"))), Target("y")
    for n_samples in (10, 1000):
        assert (
            summarise_at_once(plan, target, torch.randn(1, 8), 0, n_samples, "mc", ()) is not None
        )
    assert [key[1] for key in plan.asked] == [10]


def test_no_rows_are_no_outputs_and_rows_of_another_width_are_refused() -> None:
    plan, _ = both("plain")
    assert predict(plan, torch.empty(0, 13)).shape == (0, 2)
    assert sample(plan, torch.empty(0, 13), seed=0, n_samples=3).shape == (3, 0, 2)
    doubles = torch.randn(2, 13, dtype=torch.float64)
    assert torch.equal(predict(plan, doubles), predict(plan, doubles.float()))
    with pytest.raises(ValueError, match="13 columns"):
        predict(plan, torch.randn(2, 12))
    # Where the first layer drops inputs nothing precedes it.
    plan, _ = both("half dropped")
    doubles = torch.randn(2, 13, dtype=torch.float64)
    drawn = (sample(plan, x, seed=0, n_samples=3) for x in (doubles, doubles.float()))
    assert torch.equal(*drawn)
    with pytest.raises(ValueError, match="13 columns"):
        sample(plan, torch.randn(2, 12), seed=0, n_samples=3)


def test_many_quantiles_are_found_in_calls_that_can_be_cancelled() -> None:
    """Not in one, which would go on for seconds after its client has left."""
    plan = make_plan(MLP(MLPConfig(13, 1, (32,), p=0.1)))
    levels = [0.005 + 0.0099 * i for i in range(100)]
    x = torch.randn(140, 13)
    assert summarise_at_once(plan, Target("y"), x[:1], 0, 100, "mc", levels[:3]) is not None
    assert summarise_at_once(plan, Target("y"), x, 0, 1000, "mc", levels) is None


def test_a_network_without_hidden_layers_is_drawn_in_steps_too() -> None:
    plan = make_plan(MLP(MLPConfig(1, 1, (), input_p=0.5)))
    found = estimate(plan, Target("y"), torch.ones(2, 1), Draw(8, 0, "mc", keep_samples=True))
    assert found.samples is not None
    assert found.samples.shape == (8, 2)


def test_a_p_too_small_for_single_precision_adds_no_noise() -> None:
    plan = make_plan(MLP(MLPConfig(5, 1, (20, 20), p=(1e-50, 0.2))))
    expansion = expand(plan, make_prefix(plan, torch.randn(3, 5)))
    masks = open_stream(plan, 0, 4).take(4)
    assert torch.isfinite(expansion.linear_part(masks)).all()
    assert len(expansion.noisy) == 0  # that before the last layer is integrated out
