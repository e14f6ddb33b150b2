"""How the projection starts, and that the losses need nothing but torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import itrd_nlp.losses
from itrd_nlp.errors import UserError
from itrd_nlp.losses import make_projection


@pytest.mark.parametrize("init", ["auto", "identity"])
def test_identity_start_gives_back_its_input(init: str) -> None:
    layer = make_projection(5, 5, init=init)
    x = torch.randn(7, 5)
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)


@pytest.mark.parametrize(("d_s", "init"), [(3, "auto"), (3, "default"), (5, "default")])
def test_default_start_is_that_of_a_linear_layer(d_s: int, init: str) -> None:
    torch.manual_seed(0)
    layer = make_projection(d_s, 5, init=init)
    torch.manual_seed(0)
    expected = torch.nn.Linear(d_s, 5)
    assert torch.equal(layer.weight, expected.weight)
    assert torch.equal(layer.bias, expected.bias)


def test_is_linear_from_student_to_teacher_width_and_can_do_without_a_bias() -> None:
    layer = make_projection(3, 5, bias=False)
    assert layer(torch.ones(2, 3)).shape == (2, 5)
    assert layer.bias is None
    assert make_projection(5, 5, bias=False).bias is None


def test_identity_needs_equal_widths() -> None:
    with pytest.raises(UserError, match="'identity' needs equal widths, not 3 and 5"):
        make_projection(3, 5, init="identity")


def test_unknown_init_and_impossible_widths_are_refused() -> None:
    with pytest.raises(UserError, match=r"'eye' is unknown.*auto, identity, default"):
        make_projection(3, 3, init="eye")
    with pytest.raises(UserError, match="width 0"):
        make_projection(0, 3)


def test_public_names_exist() -> None:
    for name in itrd_nlp.losses.__all__:
        assert callable(getattr(itrd_nlp.losses, name))


def test_losses_do_not_need_transformers() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None; import itrd_nlp.losses; "
        "print(sorted(m for m in sys.modules if m.startswith('itrd_nlp.') and 'losses' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['itrd_nlp._moved', 'itrd_nlp.errors']"
