"""Whether a model is quantised, by torch, torchao, bitsandbytes or another library."""

from __future__ import annotations

from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from itrd_nlp.errors import UserError


def is_quantised(model: nn.Module) -> bool:
    """Return whether a model holds weights of fewer bits than floating-point numbers have.

    Such a weight is a tensor of integers (bitsandbytes), a tensor around others (torchao), or packed into an object
    that is no tensor (dynamic quantisation of torch). GPTQ, Quark and others keep theirs in buffers, so the mark of
    transformers counts, too.
    """
    if getattr(model, "quantization_method", None) is not None:
        return True
    if any(
        not p.is_floating_point() or is_traceable_wrapper_subclass(p) for p in model.parameters()
    ):
        return True
    return is_packed(model)


def refuse_quantised(model: nn.Module, name: str) -> None:
    """Refuse to export a model that is quantised, whose weights no exporter reads.

    Raises:
        UserError: it is.
    """
    if is_quantised(model):
        raise UserError(f"{name} is quantised already; export the model that it was made from.")


def is_packed(model: nn.Module) -> bool:
    """Return whether the dynamic quantisation of torch has packed weights of a model, which a CPU alone can read."""
    return any(not isinstance(value, Tensor) for value in model.state_dict().values())
