"""What test_distributed.py has several processes do: `torchrun tests/several.py OUT`, or `... OUT train ...`.

The first trains a little of everything and keeps what came of it; the test does the same in one process. The second is
the command line, after each process has written into OUT who it is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simsiam_course import cli, train
from simsiam_course.data import patterns
from simsiam_course.distributed import average_gradients, gather, processes, rank, share, world
from simsiam_course.recipe import Recipe
from simsiam_course.sync_batch_norm import synchronize
from simsiam_course.train import Trainer

RECIPE = Recipe(
    backbone="tiny_half", projection_dim=64, hidden_dim=64, predictor_hidden_dim=16, bank_size=128, batch_size=32,
    epochs=13, monitor_every=10,
)  # fmt: skip
RUNS: dict[str, tuple[int, dict[str, Any]]] = {  # steps, and what is changed
    "simsiam": (50, {}),
    "without a predictor": (3, {"predictor": "none", "stop_gradient": "none"}),
    "directpred": (3, {"predictor": "directpred"}),
    "joint": (3, {"joint": True}),
    "two asymmetric pairs": (3, {"symmetric": False, "pairs": 2}),
    "cross-entropy": (3, {"similarity": "cross_entropy"}),
    **{name: (3, {"method": name}) for name in ("byol", "moco", "swav", "simclr", "barlow_twins", "vicreg")},
    "moving average": (6, {"method": "moving_average"}),
    "alternating": (3, {"method": "alternating", "target_every": 2}),
}


GENTLE = {
    "lr": 0.1,
    "predictor_lr": 1.0,
}  # the rates that teach in half a minute also make rounding grow fast


class In64(Trainer):
    """A trainer whose views are float64, so that sums in another order differ by 1e-15."""

    def views(self, chosen):
        return tuple(view.double() for view in super().views(chosen))


def images():
    return patterns(128, size=16, seed=5)


def trained(steps: int, changes: dict[str, Any], *, double: bool = True) -> dict[str, Any]:
    """Losses, the monitors of the last step, the first gradient and the last weights of a run."""
    recipe = RECIPE.replace(**changes)
    model = recipe.build()
    trainer = (In64 if double else Trainer)(
        model.double() if double else model, images(), recipe, device="cpu"
    )
    losses, gradients = [], []
    for _ in range(steps):
        losses.append(float(trainer.advance()))
        gradients = gradients or [w.grad.clone() for w in trainer.names.values() if w.grad is not None]
    row = trainer.row()
    trainer.close()
    state = {name: value for name, value in trainer.model.state_dict().items() if value.is_floating_point()}
    return {"losses": losses, "gradient": _flat(gradients), "weights": _flat(state.values()),
            "names": list(state), "monitors": [row["std"], row["effective_rank"]]}  # fmt: skip


def normalised(affine: bool, shape: tuple[int, ...], momentum: float | None) -> dict[str, torch.Tensor]:
    """One step of a batch norm on a batch that is the same everywhere, each process with its share."""
    generator = torch.Generator().manual_seed(3)
    x = 3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    wanted = torch.randn(shape, generator=generator, dtype=torch.float64)
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    norm = nn.Sequential(kind(shape[1], affine=affine, momentum=momentum).double())
    for weight in norm.parameters():
        nn.init.uniform_(weight, 0.5, 1.5, generator=generator)
    if world() > 1:
        synchronize(norm)
    own = x[share(len(x))].clone().requires_grad_()
    y = norm(own)
    (gather(y) - wanted).pow(3).mean().backward()
    average_gradients(norm.parameters())
    found = {"y": gather(y).detach(), "of x": gather(own.grad) / world()}
    found |= {f"of {name}": weight.grad for name, weight in norm.named_parameters()}
    found |= dict(norm.named_buffers())
    return found | {"in eval mode": gather(norm.eval()(own)).detach()}


def all_of_it() -> dict[str, Any]:
    norms = {
        f"{affine} {len(shape)} {momentum}": normalised(affine, shape, momentum)
        for affine in (True, False)
        for shape, momentum in (((12, 5), 0.1), ((8, 3, 4, 4), None))
    }
    return {
        "norms": norms,
        "float64": {name: trained(*run) for name, run in RUNS.items()},
        "float32": trained(50, GENTLE, double=False),
    }


def _flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


if __name__ == "__main__":
    out, arguments = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    if arguments:
        attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
        (out / f"{attempt}-{os.environ['RANK']}.pid").write_text(str(os.getpid()))
        train.SECONDS_BETWEEN_CHECKPOINTS = 0
        sys.argv[1:] = arguments
        cli.main()
    else:
        with processes("cpu"):
            torch.save(all_of_it(), out / f"{rank()}.pt")
