"""The losses of ITRD for the distillers of TextBrewer.

    from itrd_nlp.distillation.textbrewer import itrd_matches

    matches = itrd_matches(student_layers=3, teacher_layers=12, student_size=768, teacher_size=768)
    distill_config = DistillationConfig(temperature=2, hard_label_weight=1, intermediate_matches=matches)

TextBrewer 0.2.1 differs from `ITRDTrainer` in five points:

- The adaptor must return ``inputs_mask``, the attention mask. Without it, padding counts as tokens.
- The soft cross entropy has no factor T^2. Users must raise ``kd_loss_weight`` with the temperature.
- ``hard_label_weight`` is 0 by default. The loss on labels also needs an adaptor that returns ``losses``.
- The losses read the micro-batch of one process. They do not use the statistics of several processes.
- Every match has its own projection. In `ITRDObjective` the two losses of a pair share one if the widths differ.
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
    """Return the value of ``intermediate_matches`` for TextBrewer's ``DistillationConfig``.

    The function registers both losses in TextBrewer's ``MATCH_LOSS_MAP`` and their projection in its ``PROJ_MAP``. The
    names of the losses contain their settings. Every token that ``inputs_mask`` keeps is a sample.

    Args:
        student_layers: number of layers of the student.
        teacher_layers: number of layers of the teacher.
        student_size: width of the student's hidden states.
        teacher_size: width of the teacher's hidden states.
        layer_map: a map or pairs of layers, see `itrd_nlp.distillation.layer_map.layer_pairs`. Default: ``"uniform"``.
        beta_corr: weight of the correlation loss, summed over the pairs. 0 leaves the loss out. Default: 2.
        beta_mi: weight of the mutual information loss, summed over the pairs. 0 leaves the loss out. Default: 1.
        alpha: exponent of the correlation loss (paper, eq. 6), above 0. Default: 1.01.
        mi_log: use the logarithms of eq. 9 in the mutual information loss. Default: false.
        mi_max_samples: largest number of tokens drawn for the mutual information loss. Default: 512.

    Returns:
        One match for each layer pair and loss.

    Raises:
        UserError: TextBrewer is not installed, or a layer does not exist.

    Example:
        >>> itrd_matches(3, 12, 768, 768, beta_mi=0)[0]["layer_T"]
        4
    """
    maps = [layer_map] if isinstance(layer_map, str) else layer_map
    pairs = layer_pairs(maps, student_layers=student_layers, teacher_layers=teacher_layers)
    correlation, information = _register(alpha, mi_log, mi_max_samples)
    matches: list[dict[str, Any]] = []

    def add(pair: LayerPair, loss: str, weight: float, *, projected: bool) -> None:
        match: dict[str, Any] = {"layer_S": pair.student, "layer_T": pair.teacher}
        match |= {"feature": "hidden", "loss": loss, "weight": weight}
        if projected:  # a new list, because TextBrewer appends to it
            match["proj"] = [PROJECTION, student_size, teacher_size]
        matches.append(match)

    for pair in pairs:
        if beta_corr > 0:
            add(pair, correlation, beta_corr, projected=True)
        if beta_mi > 0:
            # The paper projects the student for this loss only if the widths differ.
            add(pair, information, beta_mi, projected=student_size != teacher_size)
    return matches


def _register(alpha: float, mi_log: bool, mi_max_samples: int) -> tuple[str, str]:
    """Register both losses and their projection with TextBrewer, and return the names of the losses."""
    try:
        from textbrewer.presets import register_new
    except ImportError:
        raise UserError("TextBrewer is not installed; pip install itrd_nlp[textbrewer].") from None
    correlation = f"{CORRELATION}_{alpha:g}"
    information = f"{MUTUAL_INFORMATION}_{mi_max_samples}" + ("_log" if mi_log else "")
    register_new("match_Loss", correlation, partial(match_correlation, alpha=alpha))
    register_new(
        "match_Loss",
        information,
        partial(match_mutual_information, log=mi_log, max_samples=mi_max_samples),
    )
    register_new("projection", PROJECTION, _projection)
    return correlation, information


def match_correlation(
    state_S: Tensor, state_T: Tensor, mask: Tensor | None = None, *, alpha: float = 1.01
) -> Tensor:
    """Compute `correlation_loss` with the signature of TextBrewer's match losses.

    Args:
        state_S: hidden states of the student ``(B, L, d)``. TextBrewer has already projected them.
        state_T: hidden states of the teacher ``(B, L, d)``.
        mask: ``(B, L)``, 0 where a token is padding. Default: no token is padding.
        alpha: exponent of the loss, above 0. Default: 1.01.

    Returns:
        A scalar.
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
    """Compute `mutual_information_loss` with the signature of TextBrewer's match losses.

    Args:
        state_S: hidden states of the student ``(B, L, d_s)``.
        state_T: hidden states of the teacher ``(B, L, d_t)``.
        mask: ``(B, L)``, 0 where a token is padding. Default: no token is padding.
        log: use the logarithms of eq. 9. Default: false.
        max_samples: largest number of tokens drawn. Default: 512.

    Returns:
        A scalar.
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
