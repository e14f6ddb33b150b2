"""Plain text of the Hub by its real name, in the format that it has there."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset

from itrd_nlp.cli.main import subcommands
from itrd_nlp.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from server import Blob, Commit, Repo

WORDS = ["the", "rhine", "flows", "past", "bonn", "and", "basel", "="]
PART = "wikitext-103-raw-v1"
# As the data set has them: a heading, blank lines, and a line break at the end of each paragraph.
LINES = ["", " = the rhine = \n", "", " the rhine flows past bonn and basel \n", ""]


@pytest.fixture
def wikitext(as_default_hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", as_default_hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tree, lines = {}, [f"- config_name: {PART}", "  data_files:"]
    for split, times in (("test", 2), ("train", 8), ("validation", 4)):
        Dataset.from_dict({"text": LINES * times}).to_parquet(tmp_path / "a.parquet")
        content = (tmp_path / "a.parquet").read_bytes()
        tree[f"{PART}/{split}-00000-of-00001.parquet"] = Blob(content)
        lines += [f"  - split: {split}", f"    path: {PART}/{split}-*"]
    card = "---\nconfigs:\n" + "\n".join(lines) + "\n---\n# WikiText\n"
    tree["README.md"] = Blob(card.encode())
    repo = Repo("Salesforce/wikitext", "datasets", False, None, {"main": Commit("d", None, tree)})
    as_default_hub.repos["datasets/Salesforce/wikitext"] = repo
    return as_default_hub


def run(name: str, *arguments: str) -> None:
    module = importlib.import_module(f"itrd_nlp.cli.commands.{subcommands()[name].stem}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"itrd-nlp {name}", *arguments])
        module.main()


def test_the_config_for_bert_base_reads_wikitext_by_its_name(
    wikitext: Any, tmp_path: Path, make_reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in make_reader(WORDS, 2, initializer_range=0.05, max_position_embeddings=256):
        part.save_pretrained("encoder")
    few = ("--num_train_epochs", "1", "--bf16", "false", "--save_strategy", "no")
    source = ("--train_file", "Salesforce/wikitext", "--validation_file", "Salesforce/wikitext")
    run(
        *("fine-tune", "--task", "masked-lm", "--model_name_or_path", "encoder", *few, *source),
        *("--dataset_config", PART, "--output_dir", "teacher"),
    )
    own = ("--teacher", "teacher", "--num_layers", "1", "--output_dir", "student")
    run("distil", "bert_general_t6", *few, *own)
    record = json.loads(Path("student/results.json").read_text())
    assert record["layers"] == 1 and record["rows"] == 8  # the blank lines are no texts
    train = record["datasets"]["train"]
    assert (train["name"], train["config"], train["split"]) == (
        *("Salesforce/wikitext", PART),
        "train",
    )
    card = Path("student/README.md").read_text()
    assert "- Salesforce/wikitext" in card and f"8 texts of Salesforce/wikitext ({PART})" in card
    with pytest.raises(UserError, match="there is no column 'body', but text"):
        run("distil", "bert_general_t6", *few, *own[:-1], "other", "--text_column", "body")
    with pytest.raises(UserError, match="a split 'dev' that can be loaded"):
        run("distil", "bert_general_t6", *few, *own[:-1], "other", "--validation_split", "dev")
    assert not Path("other").exists()
