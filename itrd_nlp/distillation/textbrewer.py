"""ITRD inside TextBrewer: its distillers, this package's losses.

    from itrd_nlp.distillation.textbrewer import itrd_matches

    matches = itrd_matches(student_layers=3, teacher_layers=12, student_size=768, teacher_size=768)
    distill_config = DistillationConfig(temperature=2, hard_label_weight=1, intermediate_matches=matches)

What TextBrewer 0.2.1 does otherwise than a reader may expect:

- The adaptor must return ``inputs_mask`` (the attention mask). Without it padding counts as tokens.
- Its soft cross-entropy has no factor T^2, so that ``kd_loss_weight`` must grow with the temperature by hand.
- ``hard_label_weight`` is 0 by default, and the labels' loss is only there if the adaptor returns ``losses``.
- Its losses see the micro-batch of one process; there are no statistics over several.
- Every match has a projection of its own. Where the widths differ the two losses of a pair do not share one, as they do
  in `ITRDObjective`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from itrd_nlp.distillation.layer_map import layer_pairs
from itrd_nlp.errors import UserError
from itrd_nlp.losses import correlation_loss, make_projection, mutual_information_loss
from itrd_nlp.losses.outputs import LayerPair
from itrd_nlp.losses.views import draw_samples, to_samples

CORRELATION = "itrd_correlation"
MUTUAL_INFORMATION = "itrd_mutual_information"
PROJECTION = "itrd_linear"


def itrd_matches(
    student_layers: int,
    teacher_layers: int,
    student_size: int,
    teacher_size: int,
    *,
    layer_map: str | list[str] = "uniform",
    beta_corr: float = 2.0,
    beta_mi: float = 1.0,
    alpha: float = 1.01,
    mi_log: bool = False,
    mi_max_samples: int = 512,
) -> list[dict[str, Any]]:
    """The value of ``intermediate_matches`` in TextBrewer's ``DistillationConfig``.

    Puts both losses into TextBrewer's ``MATCH_LOSS_MAP`` and their projection into its ``PROJ_MAP``, under names that
    carry their settings. Every token that ``inputs_mask`` does not mask is a sample.

    Args:
        student_layers: number of layers; likewise `teacher_layers`.
        teacher_layers: see there.
        student_size: width of the hidden states; likewise `teacher_size`.
        teacher_size: see there.
        layer_map: see `itrd_nlp.distillation.layer_map.layer_pairs`.
        beta_corr: weight of the correlation loss, summed over the pairs; 0 leaves it out.
        beta_mi: weight of the mutual information loss; 0 leaves it out.
        alpha: exponent of the correlation loss (paper, eq. 6).
        mi_log: mutual information with logarithms (eq. 9).
        mi_max_samples: tokens drawn for the mutual information loss, at most.

    Raises:
        UserError: TextBrewer is not installed, or a layer does not exist.

    Example:
        >>> itrd_matches(3, 12, 768, 768, beta_mi=0)[0]["layer_T"]
        4
    """
    try:
        from textbrewer.presets import register_new
    except ImportError:
        raise UserError("TextBrewer is not installed; pip install itrd_nlp[textbrewer].") from None
    if isinstance(layer_map, str):
        layer_map = [layer_map]
    pairs = layer_pairs(layer_map, student_layers=student_layers, teacher_layers=teacher_layers)
    correlation = f"{CORRELATION}_{alpha:g}"
    information = f"{MUTUAL_INFORMATION}_{mi_max_samples}" + ("_log" if mi_log else "")
    register_new("match_Loss", correlation, partial(match_correlation, alpha=alpha))
    register_new(
        "match_Loss",
        information,
        partial(match_mutual_information, log=mi_log, max_samples=mi_max_samples),
    )
    register_new("projection", PROJECTION, _projection)
    matches: list[dict[str, Any]] = []

    def add(pair: LayerPair, loss: str, weight: float, *, projected: bool) -> None:
        match = {"layer_S": pair.student, "layer_T": pair.teacher, "feature": "hidden"}
        match |= {"loss": loss, "weight": weight}
        if projected:  # a list of its own, which TextBrewer appends to
            match["proj"] = [PROJECTION, student_size, teacher_size]
        matches.append(match)

    for pair in pairs:
        if beta_corr > 0:
            add(pair, correlation, beta_corr, projected=True)
        if beta_mi > 0:
            # As in the paper, that of the hidden states themselves where the widths agree.
            add(pair, information, beta_mi, projected=student_size != teacher_size)
    return matches


def match_correlation(
    state_S: Tensor, state_T: Tensor, mask: Tensor | None = None, *, alpha: float = 1.01
) -> Tensor:
    """`correlation_loss` in the form of TextBrewer's match losses.

    Args:
        state_S: ``(B, L, d)``, the student's; TextBrewer has projected them. `state_T` likewise, the teacher's.
        state_T: see there.
        mask: ``(B, L)``, 0 where a token is padding.
        alpha: see `correlation_loss`.
    """
    student, teacher, valid = _tokens(state_S, state_T, mask)
    return correlation_loss(student, teacher, alpha=alpha, mask=valid)


def match_mutual_information(
    state_S: Tensor,
    state_T: Tensor,
    mask: Tensor | None = None,
    *,
    log: bool = False,
    max_samples: int = 512,
) -> Tensor:
    """`mutual_information_loss` in the form of TextBrewer's match losses.

    Args:
        state_S: as for `match_correlation`.
        state_T: as there.
        mask: as there.
        log: see `mutual_information_loss`.
        max_samples: tokens drawn, at most.
    """
    student, teacher, valid = _tokens(state_S, state_T, mask)
    drawn = draw_samples(valid, max_samples)
    return mutual_information_loss(student[drawn], teacher[drawn], mask=valid[drawn], log=log)


def _tokens(state_S: Tensor, state_T: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if mask is None:
        mask = state_S.new_ones(state_S.shape[:2])
    student, valid = to_samples(state_S, mask.bool(), "tokens")
    teacher, _ = to_samples(state_T, mask.bool(), "tokens")
    return student, teacher, valid


def _projection(dim_in: int, dim_out: int) -> nn.Module:
    return make_projection(dim_in, dim_out, init="auto")
