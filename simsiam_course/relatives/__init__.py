"""SimSiam's relatives, each from the same parts: what they add, and what they do without (Sec. 6.2).

    SimCLR         SimSiam - predictor - stop-gradient + negatives: the other images of the batch
    MoCo           SimCLR + a bank of older negatives + a momentum encoder that makes them
    BYOL           SimSiam + a momentum encoder that makes the target
    SwAV           SimSiam - predictor + clusters, to which images are assigned in equal shares
    Barlow Twins   SimSiam - predictor - stop-gradient + channels that must not repeat one another
    VICReg         SimSiam - predictor - stop-gradient + channels that must vary, and not together

and SimSiam itself with another target than z, as the paper's hypothesis suggests (Sec. 5.2):

    Alternating    from a copy of f that is renewed every k steps
    MovingAverage  an average over the passes, of each image's own z; then even the predictor can go

`FORMULAS` says the same in knobs of a `Recipe`. Backbone, projector, views, `fit` and monitors are SimSiam's, so that
nothing else differs.
"""

from .losses import (
    bank_loss,
    barlow_twins_loss,
    cross_correlation,
    nt_xent,
    off_diagonal_term,
    sinkhorn,
    vicreg_loss,
)
from .methods import (
    BYOL,
    METHODS,
    Alternating,
    BarlowTwins,
    MoCo,
    MovingAverage,
    Relative,
    SimCLR,
    SwAV,
    VICReg,
    alternating_step,
)
from .targets import TargetNetwork, momentum_update, moving_average

__all__ = [
    "BYOL", "FORMULAS", "METHODS", "Alternating", "BarlowTwins", "MoCo", "MovingAverage", "Relative", "SimCLR", "SwAV",
    "TargetNetwork", "VICReg", "alternating_step", "bank_loss", "barlow_twins_loss", "cross_correlation",
    "momentum_update", "moving_average", "nt_xent", "off_diagonal_term", "sinkhorn", "vicreg_loss",
]  # fmt: skip

_NO_PREDICTOR = {"predictor": "none"}
_NEITHER = {"predictor": "none", "stop_gradient": "none"}
FORMULAS: dict[str, dict[str, object]] = {
    "simsiam": {},
    "simclr": {"method": "simclr", **_NEITHER},
    "moco": {"method": "moco", **_NO_PREDICTOR},
    "byol": {"method": "byol", "target_momentum": 0.9},  # in 1,280 steps .99 hardly leaves the start
    "swav": {"method": "swav", **_NO_PREDICTOR},
    "barlow_twins": {"method": "barlow_twins", **_NEITHER},
    "vicreg": {"method": "vicreg", **_NEITHER, "output_bn": "none"},
}
