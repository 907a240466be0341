"""Products of kept units alone, against those of all units with the dropped ones at zero."""

from dataclasses import replace

import pytest
import torch

from models import MLP, MLPConfig, thinning
from models.mask_cache import MaskCache
from models.plan import Plan
from models.sampling import draw_block, make_plan, make_prefix, open_stream, sample


def plan_of(activation: str = "relu", head: str = "regression", **more: object) -> Plan:
    torch.manual_seed(0)
    outputs = 3 if head == "classification" else 1
    config = {"p": (0.5, 0.3), "input_p": 0.2} | more
    network = MLP(MLPConfig(6, outputs, (40, 30), activation, head=head, **config))
    # The compiled kernel leaves out in its own way what is dropped.
    return replace(make_plan(network), kernel=None)


def both_ways(plan: Plan, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Outputs and conditional moments, dense and gathered."""
    found = []
    for pays in (False, True):
        monkeypatch.setattr(thinning, "pays", lambda *_, pays=pays: pays)
        prefix, masks = make_prefix(plan, x), open_stream(plan, 3, 25).take(25)
        out = torch.empty(25, len(x), plan.config.raw_features)
        conditional = torch.empty(25, len(x), 2)
        draw_block(plan, prefix, masks, out)
        whole = out.clone()
        draw_block(plan, prefix, masks, out, conditional)
        torch.testing.assert_close(out, whole, rtol=1e-4, atol=1e-5)
        found.append((whole, conditional))
    return found


@pytest.mark.parametrize("p", [((0.5, 0.3), 0.2), ((0.5, 0.0), 0.0), ((0.0, 0.6), 0.0)])
@pytest.mark.parametrize("head", ["regression", "classification"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
def test_gathering_changes_nothing_but_the_time(
    activation: str, head: str, p: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(activation, head, p=p[0], input_p=p[1])
    dense, gathered = both_ways(plan, torch.randn(20, 6), monkeypatch)
    for a, b in zip(dense, gathered, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_sample_that_keeps_nothing_is_the_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(p=(1.0, 1.0), input_p=0.0)
    for out, _ in both_ways(plan, torch.randn(20, 6), monkeypatch):
        assert torch.equal(out, plan.biases[-1][:2].clamp(min=-14.0, max=6.0).expand_as(out))


def test_it_pays_for_many_rows_and_much_dropout_alone() -> None:
    torch.manual_seed(0)
    plan = make_plan(MLP(MLPConfig(6, 1, (512, 512), p=0.5)))
    assert not thinning.pays(plan, 1)
    assert thinning.pays(plan, 256)
    gentle = make_plan(MLP(MLPConfig(6, 1, (512, 512), p=0.05)))
    assert not thinning.pays(gentle, 256)
    for kind in ("gaussian", "concrete", "dropconnect"):
        other = make_plan(MLP(MLPConfig(6, 1, (512, 512), dropout=kind, p=0.5)))
        assert not thinning.pays(other, 256)


def test_where_it_pays_dropped_units_are_not_multiplied() -> None:
    """Weights of units that every sample drops may be anything, even not finite."""
    plan = make_plan(MLP(MLPConfig(6, 1, (512, 512), p=0.5)))
    x, n_samples = torch.randn(256, 6), 4
    expected = sample(plan, x, seed=0, n_samples=n_samples)
    _, _, mask = open_stream(plan, 0, n_samples).take(n_samples)
    never = (mask == 0.0).all(dim=0)
    assert never.any()
    weights = [weight.clone() for weight in plan.weights]
    weights[1][:, never] = torch.nan
    weights[2][never] = torch.nan
    spoiled = replace(plan, weights=tuple(weights), masks=MaskCache())
    assert torch.equal(sample(spoiled, x, seed=0, n_samples=n_samples), expected)
