"""Every peer against its paper's formula, in float64, sequence by sequence, with loops and without padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import permutations, product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from itrd_nlp.losses import peers
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.peers import PeerLoss

Sequences = list[dict[str, Tensor]]
Formula = Callable[[PeerLoss, int, Sequences, Sequences], Any]
FORMULAS: dict[type[PeerLoss], Formula] = {}


def formula_of(peer: type[PeerLoss]) -> Callable[[Formula], Formula]:
    def keep(formula: Formula) -> Formula:
        FORMULAS[peer] = formula
        return formula

    return keep


def mean(values: Any) -> Any:
    values = list(values)
    return sum(values) / len(values)


def tokens(s: Sequences, t: Sequences) -> Iterator[tuple[Tensor, Tensor]]:
    for a, b in zip(s, t, strict=True):
        yield from zip(a["hidden"], b["hidden"], strict=True)


def averages(sequences: Sequences) -> list[Tensor]:
    return [sequence["hidden"].mean(0) for sequence in sequences]


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    return layer.weight.double() @ x + layer.bias.double()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return x @ y / (x.norm() * y.norm())


def huber(x: Tensor) -> Tensor:
    return x**2 / 2 if abs(x) <= 1 else abs(x) - 0.5


@formula_of(peers.HiddenMSE)
def hidden_mse(peer, index, s, t):
    project = peer.projections[index]
    return mean(((linear(project, a) - b) ** 2).mean() for a, b in tokens(s, t))


@formula_of(peers.TextBrewerSimilarity)
def textbrewer_similarity(peer, index, s, t):
    squares = []
    for a, b in zip(s, t, strict=True):
        for i, j in product(range(len(a["hidden"])), repeat=2):
            similar_s = a["hidden"][i] @ a["hidden"][j] / 6
            similar_t = b["hidden"][i] @ b["hidden"][j] / 8
            squares.append((similar_s - similar_t) ** 2)
    return mean(squares)


@formula_of(peers.DistilBertCosine)
def distilbert_cosine(peer, index, s, t):
    project = peer.projections[index]
    return mean(1 - cosine(linear(project, a), b) for a, b in tokens(s, t))


@formula_of(peers.FitNet)
def fitnet(peer, index, s, t):
    project = peer.projections[index]
    return mean((linear(project, a) - b).norm() ** 2 / 2 for a, b in tokens(s, t))


def divergence(samples_s, samples_t):
    """``log2 ||G_s||² + log2 ||G_t||² - 2 log2 <G_s, G_t>`` of centred rows, pair by pair."""

    def similarities(samples):
        middle = mean(samples)
        return [cosine(x - middle, y - middle) for x, y in product(samples, repeat=2)]

    def inner(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / len(samples_s) ** 2

    g_s, g_t = similarities(samples_s), similarities(samples_t)
    return (inner(g_s, g_s) * inner(g_t, g_t) / inner(g_s, g_t) ** 2).log2()


@formula_of(peers.TokenAlignment)
def token_alignment(peer, index, s, t):
    samples = zip(*tokens(s, t), strict=True)
    return divergence(*map(list, samples))


@formula_of(peers.SequenceAlignment)
def sequence_alignment(peer, index, s, t):
    both = zip(s, t, strict=True)
    return mean(
        divergence(list(a["hidden"]), list(b["hidden"])) for a, b in both if len(a["hidden"]) > 1
    )


@formula_of(peers.PooledAlignment)
def pooled_alignment(peer, index, s, t):
    return divergence(averages(s), averages(t))


@formula_of(peers.SRD)
def srd(peer, index, s, t):
    """The lines of the authors' code, with torch's own batch normalisation."""
    norm = nn.BatchNorm1d(8, eps=1e-4, affine=False).double()
    pairs_of_tokens = list(tokens(s, t))
    z_s = norm(torch.stack([linear(peer.projections[index], a) for a, _ in pairs_of_tokens]))
    z_t = norm(torch.stack([b for _, b in pairs_of_tokens]))
    distances = (z_s - z_t).flatten()
    return (sum(abs(x) ** 4 for x in distances) + 1e-5).log()


@formula_of(peers.VkD)
def vkd(peer, index, s, t):
    weight = peer.projections[index].weight.double()
    norm = nn.LayerNorm(8, eps=1e-5, elementwise_affine=False)
    return mean(mean(huber(x) for x in weight @ a - norm(b)) for a, b in tokens(s, t))


@formula_of(peers.TinyBERT)
def tinybert(peer, index, s, t):
    def score(sequence, head, i, j):
        width = sequence["queries"].shape[1] // 2
        part = slice(head * width, (head + 1) * width)
        return sequence["queries"][i, part] @ sequence["keys"][j, part] / math.sqrt(width)

    squares = [
        (score(a, head, i, j) - score(b, head, i, j)) ** 2
        for a, b in zip(s, t, strict=True)
        for head in range(2)
        for i, j in product(range(len(a["keys"])), repeat=2)
    ]
    return mean(squares) + hidden_mse(peer, index, s, t)


@formula_of(peers.SP)
def sp(peer, index, s, t):
    def rows(samples):
        return [
            [x @ y / torch.stack([x @ z for z in samples]).norm() for y in samples] for x in samples
        ]

    g_s, g_t = rows(averages(s)), rows(averages(t))
    n = len(g_s)
    return sum((g_s[i][j] - g_t[i][j]) ** 2 for i, j in product(range(n), repeat=2)) / n**2


@formula_of(peers.CC)
def cc(peer, index, s, t):
    def kernel(x, y):
        c = cosine(x, y)
        return math.exp(-0.8) * (1 + 0.8 * c + 0.8**2 / 2 * c**2)

    f_s, f_t = averages(s), averages(t)
    return mean(
        (kernel(f_s[i], f_s[j]) - kernel(f_t[i], f_t[j])) ** 2
        for i, j in product(range(len(f_s)), repeat=2)
    )


@formula_of(peers.RKD)
def rkd(peer, index, s, t):
    f_s, f_t = averages(s), averages(t)
    two = list(permutations(range(len(f_s)), 2))
    three = list(permutations(range(len(f_s)), 3))

    def distance(f, i, j):
        return (f[i] - f[j]).norm() / mean((f[a] - f[b]).norm() for a, b in two)

    def angle(f, i, j, k):
        return cosine(f[i] - f[j], f[k] - f[j])

    distances = mean(huber(distance(f_s, *p) - distance(f_t, *p)) for p in two)
    return distances + 2 * mean(huber(angle(f_s, *p) - angle(f_t, *p)) for p in three)


@formula_of(peers.PKT)
def pkt(peer, index, s, t):
    def probability(f, i, j):
        others = [(cosine(f[k], f[j]) + 1) / 2 for k in range(len(f)) if k != j]
        return (cosine(f[i], f[j]) + 1) / 2 / sum(others)

    f_s, f_t = averages(s), averages(t)
    total = 0.0
    for i, j in permutations(range(len(f_s)), 2):
        p_s, p_t = probability(f_s, i, j), probability(f_t, i, j)
        total += p_t * (p_t / p_s).log()
    return total / len(f_s)


@formula_of(peers.NST)
def nst(peer, index, s, t):
    def kernel_mean(x, y):
        return mean((a / a.norm() @ (b / b.norm())) ** 2 for a in x for b in y)

    return mean(
        kernel_mean(b["hidden"].T, b["hidden"].T)
        + kernel_mean(a["hidden"].T, a["hidden"].T)
        - 2 * kernel_mean(a["hidden"].T, b["hidden"].T)
        for a, b in zip(s, t, strict=True)
    )


@formula_of(peers.PatientKD)
def patient_kd(peer, index, s, t):
    def distance(a, b):
        a = linear(peer.projections[index], a)
        return (a / a.norm() - b / b.norm()).norm() ** 2

    return mean(distance(a["hidden"][0], b["hidden"][0]) for a, b in zip(s, t, strict=True))


@formula_of(peers.CRD)
def crd(peer, index, s, t):
    f_s = [linear(peer.of_student[index], x) for x in averages(s)]
    f_t = [linear(peer.of_teacher[index], x) for x in averages(t)]

    def anchored(anchors, others):
        return mean(
            -math.log(
                math.exp(cosine(anchor, others[i]) / 0.07)
                / sum(math.exp(cosine(anchor, other) / 0.07) for other in others)
            )
            for i, anchor in enumerate(anchors)
        )

    return anchored(f_s, f_t) + anchored(f_t, f_s)


@formula_of(peers.MiniLMv2)
def minilm_v2(peer, index, s, t):
    def relation(x, head):  # of two heads, which divide 6 and 8
        width = x.shape[1] // 2
        part = x[:, head * width : (head + 1) * width]
        return (part @ part.T / math.sqrt(width)).softmax(-1)

    total = 0.0
    for kind in ("queries", "keys", "values"):
        divergences = []
        for a, b in zip(s, t, strict=True):
            for head in range(2):
                r_s, r_t = relation(a[kind], head), relation(b[kind], head)
                divergences += [(q * (q / p).log()).sum() for p, q in zip(r_s, r_t, strict=True)]
        total += mean(divergences)
    return total


@formula_of(peers.VID)
def vid(peer, index, s, t):
    first, second, third = (m for m in peer.means[index] if isinstance(m, nn.Linear))
    variance = (1 + peer.scales[index].double().exp()).log() + 1e-5
    total = []
    for a, b in tokens(s, t):
        mu = linear(third, linear(second, linear(first, a).relu()).relu())
        total.append((variance.log() / 2 + (b - mu) ** 2 / (2 * variance)).mean())
    return mean(total)


# The layer pairs that a paper's method reads, of 1:2 and 2:4.
READS = {
    peers.DistilBertCosine: [LayerPair(2, 4)],
    peers.FitNet: [LayerPair(1, 2)],
    peers.MiniLMv2: [LayerPair(2, 4)],
}


@pytest.mark.parametrize("lengths", [(5, 2, 4, 3), (1, 3, 1)], ids=["lengths", "single tokens"])
def test_a_peer_is_its_papers_formula(draw, pad, make_peer, peer_class, lengths):
    student, teacher = draw(lengths)
    peer = make_peer(peer_class)
    with torch.no_grad():
        for scale in getattr(peer, "scales", []):
            scale.copy_(torch.randn(8))
        pairs = READS.get(peer_class, [LayerPair(1, 2), LayerPair(2, 4)])
        assert peer.pairs == pairs
        expected = sum(
            FORMULAS[peer_class](peer, index, student[i], teacher[j])
            for index, (i, j) in enumerate(pairs)
        )
        loss = peer(pad(student)[0], *pad(teacher))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(float(expected), rel=2e-5, abs=2e-6)


@pytest.mark.parametrize(
    ("textbrewers", "name", "masked"),
    [
        (peers.HiddenMSE, "hid_mse_loss", True),
        (peers.TextBrewerSimilarity, "mmd_loss", False),
        (peers.DistilBertCosine, "cos_loss", True),
        (peers.PatientKD, "pkd_loss", True),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_textbrewer_has_is_what_textbrewer_computes(
    draw, pad, make_peer, textbrewers, name, masked
):
    """Its mmd_loss is only comparable without a mask: with one it divides by the length in place of the width."""
    theirs = getattr(pytest.importorskip("textbrewer.losses"), name)
    student, teacher = draw((5, 2, 4) if masked else (4, 4, 4), teacher_width=6)
    (s, mask), (t, _) = pad(student, fill=0.5), pad(teacher, fill=0.5)
    peer = make_peer(textbrewers, teacher_width=6)
    expected = 0.0
    for i, j in peer.pairs:
        state_s, state_t = s.hidden_states[i], t.hidden_states[j]
        if not masked:
            state_s, state_t = [state_s, state_s], [state_t, state_t]
        expected += theirs(state_s, state_t, mask=mask if masked else None)
    torch.testing.assert_close(peer(s, t, mask), expected)
