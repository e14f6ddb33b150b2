"""States of sequences of different lengths, as lists and padded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from itrd_nlp.losses import peers
from itrd_nlp.losses.outputs import AttentionStates, EncoderOutput, LayerPair
from itrd_nlp.losses.peers import PeerLoss, Sizes

PAIRS = [LayerPair(1, 2), LayerPair(2, 4)]
KINDS = ("hidden", "queries", "keys", "values")

# layer -> one entry a sequence: what it is -> (tokens, width), float64
Ragged = dict[int, list[dict[str, Tensor]]]


def all_peers() -> list[type[PeerLoss]]:
    named = [getattr(peers, name) for name in peers.__all__]
    return [
        p for p in named if isinstance(p, type) and issubclass(p, PeerLoss) and p is not PeerLoss
    ]


def pytest_generate_tests(metafunc: Any) -> None:
    if "peer_class" in metafunc.fixturenames:
        metafunc.parametrize("peer_class", all_peers(), ids=lambda peer: peer.__name__)


def draw_states(lengths: tuple[int, ...], layers: tuple[int, ...], width: int, seed: int) -> Ragged:
    generator = torch.Generator().manual_seed(seed)

    def numbers(n: int) -> Tensor:
        # Float32 values, so that what is compared in float64 has the same input. Features with means of their own.
        values = torch.randn(n, width, generator=generator) + torch.linspace(-1, 1, width)
        return values.double()

    return {layer: [{kind: numbers(n) for kind in KINDS} for n in lengths] for layer in layers}


def pad_states(
    ragged: Ragged,
    length: int = 0,
    fill: float = float("nan"),
    dtype: torch.dtype = torch.float32,
    grad: bool = False,
) -> tuple[EncoderOutput, Tensor]:
    """One tensor ``(B, L, d)`` of each kind, padded with anything, and the mask."""
    sequences = next(iter(ragged.values()))
    longest = max(length, *(len(sequence["hidden"]) for sequence in sequences))
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in zip(mask, sequences, strict=True):
        row[: len(sequence["hidden"])] = 1

    def tensor(layer: int, kind: str) -> Tensor:
        rows = [sequence[kind] for sequence in ragged[layer]]
        whole = torch.full((len(rows), longest, rows[0].shape[1]), fill, dtype=dtype)
        for target, row in zip(whole, rows, strict=True):
            target[: len(row)] = row
        return whole.requires_grad_(grad)

    hidden = {layer: tensor(layer, "hidden") for layer in ragged}
    attention = {
        layer: AttentionStates(*(tensor(layer, kind) for kind in KINDS[1:])) for layer in ragged
    }
    return EncoderOutput({}, hidden, attention), mask


def gradients(output: EncoderOutput) -> list[Tensor | None]:
    return [
        x.grad
        for layer, hidden in output.hidden_states.items()
        for x in (hidden, *vars(output.attention[layer]).values())
    ]


@pytest.fixture
def draw() -> Any:
    """`draw_states` of a student (width 6) and a teacher (width 8 or as given)."""

    def draw(
        lengths: tuple[int, ...] = (5, 2, 4, 3), teacher_width: int = 8, seed: int = 0
    ) -> tuple[Ragged, Ragged]:
        return (
            draw_states(lengths, (1, 2), 6, 2 * seed),
            draw_states(lengths, (2, 4), teacher_width, 2 * seed + 1),
        )

    return draw


@pytest.fixture
def pad() -> Any:
    return pad_states


@pytest.fixture
def make_peer() -> Any:
    """A peer with weights of its own."""

    def make_peer(peer: type[PeerLoss], teacher_width: int = 8) -> PeerLoss:
        torch.manual_seed(0)
        return peer(Sizes(6, teacher_width, 2, 2), PAIRS)

    return make_peer


@pytest.fixture
def gradients_of() -> Any:
    return gradients
