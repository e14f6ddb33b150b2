"""Data sets that the Hub has, read by their ids: small files in the form of the real ones."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))  # test folders are no packages

from server import Blob, Commit, Repo

# The card of rajpurkar/squad_v2 says where its files lie.
CARD = """---
pretty_name: SQuAD2.0
configs:
- config_name: squad_v2
  default: true
  data_files:
  - split: train
    path: squad_v2/train-*
  - split: validation
    path: squad_v2/validation-*
---
"""
CONTEXT = "The Rhine begins in the Swiss Alps."
ROWS = [
    {
        "id": "56be85543aeaaa14008c9063",
        "title": "Rhine",
        "context": CONTEXT,
        "question": "Where does the Rhine begin?",
        "answers": {"text": ["the Swiss Alps"], "answer_start": [20]},
    },
    {
        "id": "5ad39d53604f3c001a3fe8d1",
        "title": "Rhine",
        "context": CONTEXT,
        "question": "Where does the Danube begin?",
        "answers": {"text": [], "answer_start": []},
    },
]
READ = """
import json
from itrd_nlp.tasks.question_answering.read import read_squad
print(json.dumps(read_squad("rajpurkar/squad_v2", split="validation").to_list()))
"""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    schema = pa.schema(
        {
            **dict.fromkeys(("id", "title", "context", "question"), pa.string()),
            "answers": pa.struct(
                {"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}
            ),
        }
    )
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return file.getvalue()


def test_squad_2_is_read_by_its_id(hub: Any) -> None:
    tree = {
        "README.md": Blob(CARD.encode()),
        "squad_v2/train-00000-of-00001.parquet": Blob(parquet(ROWS)),
        "squad_v2/validation-00000-of-00001.parquet": Blob(parquet(ROWS[::-1])),
    }
    name = "rajpurkar/squad_v2"
    hub.repos[f"datasets/{name}"] = Repo(
        name, "datasets", False, branches={"main": Commit("data", None, tree)}
    )
    found = subprocess.run(
        [sys.executable, "-c", READ],
        env=hub.env | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert json.loads(found.stdout.splitlines()[-1]) == ROWS[::-1]
