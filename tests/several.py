"""What test_distributed.py has several processes do, and does itself in one: `torchrun tests/several.py OUT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simsiam_course.data import patterns
from simsiam_course.distributed import average_gradients, gather, processes, rank, share, world
from simsiam_course.recipe import Recipe
from simsiam_course.sync_batch_norm import synchronize
from simsiam_course.train import Trainer

RECIPE = Recipe(backbone="tiny_half", batch_size=16, epochs=13, warmup_steps=10, monitor_every=10)
RUNS: dict[str, tuple[int, dict[str, Any]]] = {  # steps, and what is changed
    "simsiam": (50, {}),
    "without a predictor": (3, {"predictor": "none", "stop_gradient": "none"}),
    "directpred": (3, {"predictor": "directpred"}),
    "joint": (3, {"joint": True}),
    "two asymmetric pairs": (3, {"symmetric": False, "pairs": 2}),
    "cross-entropy": (3, {"similarity": "cross_entropy"}),
    **{name: (3, {"method": name}) for name in ("byol", "moco", "swav", "simclr", "barlow_twins", "vicreg")},
    "moving average": (6, {"method": "moving_average", "epochs": 6}),
    "alternating": (3, {"method": "alternating", "target_every": 2}),
}


class In64(Trainer):
    """A trainer whose views are float64, so that sums in another order differ by 1e-15."""

    def views(self, chosen):
        return tuple(view.double() for view in super().views(chosen))


def images():
    return patterns(64, seed=5)


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
        "float32": trained(*RUNS["simsiam"], double=False),
    }


def _flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


if __name__ == "__main__":
    torch.set_num_threads(1)
    with processes("cpu"):
        torch.save(all_of_it(), Path(sys.argv[1]) / f"{rank()}.pt")
