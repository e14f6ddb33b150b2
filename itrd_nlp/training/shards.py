"""The parts of a model that FSDP gathers one after the other."""

from __future__ import annotations

from torch import nn


def name_units(network: nn.Module, learner: nn.Module) -> None:
    """Tell accelerate that the layers of an encoder are the units of FSDP.

    A file that names the class of one model's layers stops the training of another. transformers names the embeddings,
    too, which accelerate shards by itself and cannot shard twice.

    Args:
        network: what is trained. The names are put there, in the attribute that accelerate reads.
        learner: the encoder in it.
    """
    total = getattr(getattr(learner, "config", None), "num_hidden_layers", None)
    stacks = [stack for stack in learner.modules() if isinstance(stack, nn.ModuleList)]
    layers = [layer for stack in stacks if len(stack) == total for layer in stack]
    vars(network)["_no_split_modules"] = sorted({type(layer).__name__ for layer in layers})
