"""The losses of other papers, to compare with under the same trainer.

Each is a `PeerLoss`, named in ``ITRDTrainingArguments.peer_losses`` by its dotted path. ``docs/method.md`` has a table.
"""

from .base import LayerStates, PeerLoss, Sizes, load_peer, term_name
from .cc import CC
from .crd import CRD
from .distilbert_cosine import DistilBertCosine
from .fitnet import FitNet
from .hidden_mse import HiddenMSE
from .minilm_v2 import MiniLMv2
from .nst import NST
from .patient_kd import PatientKD
from .pkt import PKT
from .rkd import RKD
from .sp import SP
from .textbrewer_similarity import TextBrewerSimilarity
from .tinybert import TinyBERT
from .vid import VID

__all__ = [
    "CC",
    "CRD",
    "NST",
    "PKT",
    "RKD",
    "SP",
    "VID",
    "DistilBertCosine",
    "FitNet",
    "HiddenMSE",
    "LayerStates",
    "MiniLMv2",
    "PatientKD",
    "PeerLoss",
    "Sizes",
    "TextBrewerSimilarity",
    "TinyBERT",
    "load_peer",
    "term_name",
]
