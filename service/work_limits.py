"""How much one request asks for, and the limits beyond which it is refused."""

from __future__ import annotations

from models import kernel
from models.draw import Draw
from models.estimators import linearised_floats_per_row, linearised_work_per_row
from models.reduced import MOST_SAMPLES_PER_DESIGN
from models.sampling import Plan
from service import picture
from service.computation import Rows
from service.errors import InvalidError
from service.loading import LoadedVersion
from service.schemas import DropoutRequest
from service.settings import Settings

# Work is counted in multiply-adds, of which one core does about 40 billion in a second.
# To summarise one output; to find one quantile, for each sample; to draw one mask value.
SUMMARY_WORK = 1_000
QUANTILE_WORK = 25_000
MASK_WORK = 100
# To begin one more design of stratified samples, whatever the network.
DESIGN_WORK = 10_000_000
# Outputs held at once by a draw that may stop early, or that is sent whole: 80 MB as drawn, and
# about twenty times that while they are summarised.
MOST_KEPT_OUTPUTS = 20_000_000


class WorkLimits:
    """Each check raises InvalidError with the limit, and with what was asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def count(self, loaded: LoadedVersion, rows: Rows) -> int:
        """N, within the limit."""
        n_rows = rows.count(loaded.artifact.schema)
        most = self._settings.max_rows
        if n_rows > most:
            raise too_much("instances", f"{n_rows} rows are more than the {most} of one request")
        return n_rows

    def check_outputs(self, loaded: LoadedVersion, n_rows: int, draw: Draw) -> None:
        outputs = n_rows * draw.n_samples * loaded.plan.config.out_features
        most = self._settings.max_returned_samples
        if draw.keep_samples and outputs > most:
            message = f"{outputs} sample values in one answer are more than the {most} allowed"
            raise too_much("return_samples", f"{message}: fewer rows or samples help")
        if draw.may_stop_early and draw.estimator != "mc":
            outputs += n_rows * linearised_floats_per_row(loaded.plan)
        if (draw.keep_samples or draw.may_stop_early) and outputs > MOST_KEPT_OUTPUTS:
            message = f"{outputs} sample values with tolerance or deadline_ms are more than the"
            raise too_much(
                "n_samples", f"{message} {MOST_KEPT_OUTPUTS} allowed: fewer rows or samples help"
            )

    def check_picture(self, loaded: LoadedVersion, request: DropoutRequest) -> None:
        masks = picture.count_shown(loaded.plan, request)
        outputs = request.n_samples * loaded.plan.config.out_features
        most = self._settings.max_returned_samples
        if masks + outputs > most:
            raise too_much(
                "n_samples",
                f"{masks} mask values of this network and {outputs} sample values are more than "
                f"the {most} of one answer: max_units and fewer samples help",
            )

    def check_draw(self, loaded: LoadedVersion, n_rows: int, draw: Draw) -> int:
        """Of an estimator that is chosen; gives the work as it is here: compiled code finds
        quantiles in a sixth of the time that is held against the limit."""
        self.check_outputs(loaded, n_rows, draw)
        beside = 0
        if draw.estimator != "mc":
            beside = n_rows * linearised_work_per_row(loaded.plan, draw)
        n_samples = 1 if draw.estimator == "analytic" else draw.n_samples
        if draw.estimator != "mc":
            beside += (n_samples - 1) // MOST_SAMPLES_PER_DESIGN * DESIGN_WORK
        n_levels = 0
        if loaded.artifact.schema.target.task == "regression":
            n_levels = len(draw.quantiles)
        work = self.check_work(loaded, n_rows, n_samples, n_levels, beside=beside)
        spared = QUANTILE_WORK - kernel.QUANTILE_PRODUCTS if kernel.is_available() else 0
        return work - spared * n_samples * n_rows * n_levels

    def check_work(
        self,
        loaded: LoadedVersion,
        n_rows: int,
        n_samples: int,
        n_levels: int = 0,
        mask_work: int = MASK_WORK,
        beside: int = 0,
    ) -> int:
        plan = loaded.plan
        per_output = plan.products_per_row + SUMMARY_WORK + QUANTILE_WORK * n_levels
        work = n_samples * (n_rows * per_output + mask_work * mask_values(plan))
        most = self._settings.max_work
        if work + beside > most:
            raise too_much(
                "n_samples",
                f"work of {work + beside} multiply-adds is more than the {most} allowed: fewer "
                "rows, samples or quantiles help",
            )
        return work + beside


def too_much(field: str, message: str) -> InvalidError:
    return InvalidError(message, errors=[{"loc": [field], "msg": message}])


def mask_values(plan: Plan) -> int:
    """Of one sample."""
    return sum(site.size for site in plan.sites if site.is_active)
