"""A peer is found by the dotted path of its class and logged by its name."""

from __future__ import annotations

import pytest

from itrd_nlp.errors import UserError
from itrd_nlp.losses import peers
from itrd_nlp.losses.peers import load_peer, term_name

OWN = """
from itrd_nlp.losses.peers import PeerLoss

class MeanAbsolute(PeerLoss):
    def pair_loss(self, index, student, teacher, mask):
        return (student.hidden - teacher.hidden).abs().mean(-1)[mask].mean()

class KD(MeanAbsolute):
    pass

class HiddenScale(MeanAbsolute):
    pass

class GradNorm(MeanAbsolute):
    pass

NUMBER = 1
"""


def test_the_name_in_the_log_is_the_class_in_small_letters():
    names = {term_name(getattr(peers, name)) for name in peers.__all__ if name[0].isupper()}
    assert names >= {"patient_kd", "hidden_mse", "tiny_bert", "mini_lmv2", "fit_net", "rkd", "cc"}
    assert len(names) == len([name for name in peers.__all__ if name[0].isupper()])


def test_a_class_of_ones_own_is_found_like_those_of_the_package(tmp_path, monkeypatch):
    (tmp_path / "peers_of_mine.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_peer("itrd_nlp.losses.peers.RKD") is peers.RKD
    assert load_peer("peers_of_mine.MeanAbsolute").__name__ == "MeanAbsolute"
    for path, sentence in (
        (
            "peers_of_mine.NUMBER",
            r"NUMBER is no PeerLoss of peers_of_mine; its peers are: GradNorm, H",
        ),
        ("peers_of_mine.Absent", "Absent is no PeerLoss of peers_of_mine"),
        ("peers_of_mine.KD", "peers_of_mine.KD, but the log has a kd already"),
        ("peers_of_mine.HiddenScale", "the log has a hidden_scale already"),
        ("peers_of_mine.GradNorm", "the log has a grad_norm already"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_peer(path)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("RKD", "'RKD', but must name classes by their dotted paths"),
        (".RKD", "'.RKD', but must name classes"),
        ("", "'', but must name classes"),
        ("itrd_nlp.losses.peers.", "must name classes by their dotted paths"),
        (
            "absent_package.RKD",
            "there is no module absent_package; it must be installed or on PYTHON",
        ),
        ("itrd_nlp.losses.peers.PeerLoss", "PeerLoss is no PeerLoss of .*; its peers are: CC, CRD"),
        ("itrd_nlp.losses.correlation_loss", "its peers are: none"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_by_name(path, sentence):
    with pytest.raises(UserError, match=sentence):
        load_peer(path)
