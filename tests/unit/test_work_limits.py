"""How much work a draw is: what it is refused by, and what it takes here."""

import pytest

from models import kernel
from models.draw import Draw
from models.plan import make_plan
from service.errors import InvalidError
from service.loading import LoadedVersion
from service.settings import Settings
from service.work_limits import DESIGN_WORK, QUANTILE_WORK, WorkLimits
from tests.unit.artifacts import make

DRAW = Draw(100, 0, "mc", quantiles=(0.1, 0.5, 0.9))


@pytest.mark.parametrize("is_compiled", [True, False])
def test_quantiles_are_less_work_where_they_are_compiled(
    is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "is_available", lambda: is_compiled)
    artifact = make()
    loaded = LoadedVersion("m", 1, artifact, make_plan(artifact.network))
    without = Draw(100, 0, "mc")
    n_quantiles = 2 * 100 * 3
    limits = WorkLimits(Settings())
    work = limits.check_draw(loaded, 2, without)
    took = limits.check_draw(loaded, 2, DRAW) - work
    assert took == n_quantiles * (kernel.QUANTILE_PRODUCTS if is_compiled else QUANTILE_WORK)
    # The limit is the same wherever it stands.
    most = work + n_quantiles * QUANTILE_WORK
    WorkLimits(Settings(max_work=most)).check_draw(loaded, 2, DRAW)
    with pytest.raises(InvalidError, match=f"{most} multiply-adds"):
        WorkLimits(Settings(max_work=most - 1)).check_draw(loaded, 2, DRAW)


def test_designs_after_the_first_are_work() -> None:
    artifact = make()
    loaded = LoadedVersion("m", 1, artifact, make_plan(artifact.network))
    limits = WorkLimits(Settings())
    one, two, ten = (
        limits.check_draw(loaded, 1, Draw(n, 0, "stratified")) for n in (100, 101, 1000)
    )
    assert one < DESIGN_WORK < two < 2 * DESIGN_WORK
    assert 9 * DESIGN_WORK < ten < 10 * DESIGN_WORK
