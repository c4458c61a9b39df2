"""What a recipe switches on for speed, and how much of it a step then saves: lower precision and compiled code.

Both stand on the model's own `forward` while it trains and are gone afterwards, so that whatever measures the model
measures it as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .memory import out_of_memory
from .recipe import Recipe

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_switches(recipe: Recipe, device: torch.device) -> None:
    """Errors: `InputError` for a precision that this device does not train in."""
    if recipe.amp == "fp16" and device.type != "cuda":
        raise InputError("amp 'fp16' is for GPUs: on a CPU use 'bf16', or leave it 'off'.")


def switch_on(model: nn.Module, recipe: Recipe, device: torch.device) -> list[nn.Module]:
    """Lets a model train as the recipe says; returns the modules that were changed, for `switch_off`.

    With `amp` the convolutions and matrix products of a forward pass are made in lower precision, weights and outputs
    stay float32: the loss, which takes differences of cosines near one, is computed from them. With `compile` backbone
    and heads are compiled each for itself: what lies between them is Python.
    Errors: `InputError` for a precision that this device does not train in; at the first step, where the compiler
    fails.
    """
    check_switches(recipe, device)
    target = getattr(model, "target", None)
    whole = [model, *([target] if isinstance(target, nn.Module) else [])]
    found = [getattr(model, name, None) for name in ("backbone", "projector", "predictor")]
    parts = [part for part in (*found, getattr(target, "encoder", None)) if isinstance(part, nn.Module)] or [
        model
    ]
    parts = [part for part in parts if any(True for _ in part.parameters())]
    for part in parts if recipe.compile else ():
        _replace_forward(part, _compiled(part.forward))
    for part in whole if recipe.amp != "off" else ():
        _replace_forward(part, _lower(part.forward, device, PRECISIONS[recipe.amp]))
    return [*(parts if recipe.compile else ()), *(whole if recipe.amp != "off" else ())]


def switch_off(changed: list[nn.Module]) -> None:
    """Gives modules their own `forward` back."""
    for module in changed:
        module.__dict__.pop("forward", None)


def _replace_forward(module: nn.Module, training: Callable[..., Any]) -> None:
    """Uses another forward while the module trains, its own in eval mode."""
    own = module.forward

    def forward(*inputs: Any) -> Any:
        return training(*inputs) if module.training else own(*inputs)

    module.__dict__["forward"] = forward


def _lower(forward: Callable[..., Any], device: torch.device, precision: torch.dtype) -> Callable[..., Any]:
    def lower(*inputs: Any) -> Any:
        with torch.autocast(device.type, precision):
            outputs = forward(*inputs)
        return tuple(_float(y) for y in outputs) if isinstance(outputs, tuple) else _float(outputs)

    return lower


def _float(y: Tensor) -> Tensor:
    return y.float() if y.dtype in PRECISIONS.values() else y


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    fast = torch.compile(forward, dynamic=False)
    worked = False

    def compiled(*inputs: Any) -> Any:
        nonlocal worked
        try:
            outputs = fast(*inputs)
        except InputError:
            raise
        except Exception as error:  # whatever a compiler may raise, but not what a running step does
            if worked or out_of_memory(error):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"torch.compile does not work here ({reason[:200]}): leave compile off, or install a C++ compiler."
            ) from error
        worked = True
        return outputs

    return compiled
