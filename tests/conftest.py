"""Every test runs with empty caches of its own and with one thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# Set before the libraries are imported, which read them once; inherited by processes that tests start.
_CACHE = tempfile.TemporaryDirectory(prefix="itrd_nlp_tests_")
os.environ["HF_HOME"] = _CACHE.name
for _name in ("HF_DATASETS_CACHE", "HF_EVALUATE_CACHE", "HF_HUB_CACHE", "HF_MODULES_CACHE"):
    os.environ.pop(_name, None)
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# A shell that starts the tests in the background lets them, and the processes that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from typing import Any  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertForQuestionAnswering,
    BertTokenizerFast,
)


def tiny_config(layers: int, **changes: Any) -> BertConfig:
    """A BERT that runs in milliseconds."""
    tiny: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.2,  # larger than usual: features that differ from token to token
    }
    return BertConfig(**(tiny | changes))


@pytest.fixture(scope="session")
def make_config() -> Any:
    return tiny_config


def tiny_bert(layers: int, *, seed: int, **changes: Any) -> BertForQuestionAnswering:
    """Random weights."""
    torch.manual_seed(seed)
    return BertForQuestionAnswering(tiny_config(layers, **changes))


def reader(
    words: list[str], layers: int, *, seed: int = 0, **changes: Any
) -> tuple[BertForQuestionAnswering, BertTokenizerFast]:
    """A model of random weights, whose logits differ, and a tokenizer that knows these words."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokenizer = BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)})
    changes = {"initializer_range": 0.5, "max_position_embeddings": 512} | changes
    return tiny_bert(layers, seed=seed, vocab_size=len(tokens), **changes), tokenizer


@pytest.fixture(scope="session")
def make_reader() -> Any:
    return reader


@pytest.fixture
def make_bert() -> Any:
    return tiny_bert


@pytest.fixture
def teacher() -> BertForQuestionAnswering:
    return tiny_bert(4, seed=0)


@pytest.fixture
def student() -> BertForQuestionAnswering:
    return tiny_bert(2, seed=1)


@pytest.fixture
def narrow_student() -> BertForQuestionAnswering:
    return tiny_bert(2, seed=2, hidden_size=16)


def span_rows(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Windows of 6 to 16 tokens with an answer, without padding."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    rows = []
    for _ in range(count):
        length = draw(6, 17)
        start = draw(0, length)
        rows.append(
            {
                "input_ids": torch.randint(5, 64, (length,), generator=generator).tolist(),
                "token_type_ids": [0] * 3 + [1] * (length - 3),
                "start_positions": start,
                "end_positions": draw(start, length),
                "length": length,
            }
        )
    return rows


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A collator that was not written for the package."""
    longest = max(len(row["input_ids"]) for row in rows)
    batch: dict[str, Any] = {}
    for name in ("input_ids", "token_type_ids"):
        batch[name] = torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in rows])
    batch["attention_mask"] = torch.tensor(
        [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
    )
    for name in set(rows[0]) - {"input_ids", "token_type_ids", "length"}:
        batch[name] = torch.tensor([row[name] for row in rows])
    return batch


@pytest.fixture
def make_rows() -> Any:
    return span_rows


@pytest.fixture
def collate() -> Any:
    return pad


@pytest.fixture
def span_batch() -> dict[str, torch.Tensor]:
    return pad(span_rows(6))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once for all processes of a test run."""
    pytest.importorskip("mkdocs")
    root = Path(__file__).parents[1]
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    built = shared / "site"
    with FileLock(shared / "site.lock"):
        if not built.exists():
            command = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(built)]
            environment = os.environ | {"PYTHONPATH": str(root), "NO_MKDOCS_2_WARNING": "1"}
            done = subprocess.run(
                [sys.executable, *command],
                cwd=root,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    return built
