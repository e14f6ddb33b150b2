"""The losses of other papers, which the same trainer can train for comparison.

Each loss is a `PeerLoss`. ``ITRDTrainingArguments.peer_losses`` names it by its dotted path. ``docs/method.md`` has a
table of all of them.
"""

from itrd_nlp.losses.peers.alignment import PooledAlignment, SequenceAlignment, TokenAlignment
from itrd_nlp.losses.peers.base import LayerStates, PeerLoss, Sizes, load_peer, term_name, term_of
from itrd_nlp.losses.peers.cc import CC
from itrd_nlp.losses.peers.crd import CRD
from itrd_nlp.losses.peers.distilbert_cosine import DistilBertCosine
from itrd_nlp.losses.peers.fitnet import FitNet
from itrd_nlp.losses.peers.hidden_mse import HiddenMSE
from itrd_nlp.losses.peers.minilm_v2 import MiniLMv2
from itrd_nlp.losses.peers.nst import NST
from itrd_nlp.losses.peers.patient_kd import PatientKD
from itrd_nlp.losses.peers.pkt import PKT
from itrd_nlp.losses.peers.rkd import RKD
from itrd_nlp.losses.peers.sp import SP
from itrd_nlp.losses.peers.srd import SRD
from itrd_nlp.losses.peers.textbrewer_similarity import TextBrewerSimilarity
from itrd_nlp.losses.peers.tinybert import TinyBERT
from itrd_nlp.losses.peers.vid import VID
from itrd_nlp.losses.peers.vkd import VkD

__all__ = [
    "CC",
    "CRD",
    "NST",
    "PKT",
    "RKD",
    "SP",
    "SRD",
    "VID",
    "DistilBertCosine",
    "FitNet",
    "HiddenMSE",
    "LayerStates",
    "MiniLMv2",
    "PatientKD",
    "PeerLoss",
    "PooledAlignment",
    "SequenceAlignment",
    "Sizes",
    "TextBrewerSimilarity",
    "TinyBERT",
    "TokenAlignment",
    "VkD",
    "load_peer",
    "term_name",
    "term_of",
]
