"""Write `docs/models.md` from the record of a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.architectures.outcomes import OK, STEPS

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "results" / "architectures" / "architectures.json"
PAGE = ROOT / "docs" / "models.md"

INTRODUCTION = """# Models

Most models of transformers with one of the heads below can be student and teacher. Each step works, or is refused with
one sentence before the first step of the training. The tables name what is refused. This page is written from the
record of a run with tiny models of random weights of every architecture that transformers {version} lists
([architectures.json](results/architectures/architectures.json)):

```
python -m benchmarks.architectures.run
```

| step | what is tried |
|---|---|
| first, uniform, last | `build_student` with two of four layers; saved, loaded, and the logits are equal |
| training | three steps with the task loss, KD, correlation and mutual information; the teacher stays as it was |
| saving | the trained student is saved, loaded, and the logits are equal |
| early exit | a teacher without KD gives the states of a whole pass, whether it stops early or not |
| cache | what `teacher_cache: on` reads is what the teacher has computed |
| narrower | a student of half the width learns in three steps |

Where no student can be built from the teacher's layers, the other steps use a student of the teacher's shape. Losses
of `peer_losses` that read queries, keys and values (TinyBERT, MiniLMv2) take models with three linear layers for them
in each layer, named as in BERT, MPNet, DistilBERT, Llama or DeBERTa-v2, and with as many keys as queries. They refuse
all others, such as ALBERT, GPT-2 and ModernBERT. They refuse ConvBERT and Longformer in the first step. The scores of
TinyBERT leave out the relative positions of MPNet and DeBERTa-v2, the scale of the latter, and the rotation of RoFormer
and Llama.

## Images, sound, and models of your own

Networks for images have hidden states of several widths and maps of features `(B, C, H, W)`. A map counts as one
position for each of its places. With `corr_view: pooled` and `mi_view: pooled` the losses read the mean over all
places, which is the representation that the paper compares. Student and teacher may then have different numbers of
positions.

Whatever transformers does not know needs a function of the model and the batch:

```python
from itrd_nlp import ITRDTrainer
from itrd_nlp.models.adaptor import Reading


def read_teacher(model, inputs):
    maps = model.maps(inputs["pixel_values"])  # one (B, C, H, W) a stage
    return Reading(model.head(maps[-1].mean((2, 3))), maps)


trainer = ITRDTrainer(student, teacher, args, train_dataset=rows, teacher_adaptor=read_teacher)
```

The teacher may be any `torch.nn.Module`. The student is a `PreTrainedModel`, because it is saved by `save_pretrained`;
if its states are not those of transformers, `student_adaptor` reads them, and returns the task loss as well.
"""


def write_page(record: dict[str, Any], path: Path) -> None:
    """Write the page.

    Args:
        record: what `benchmarks.architectures.run` has recorded.
        path: the page.
    """
    path.write_text(page(record), encoding="utf-8")


def page(record: dict[str, Any]) -> str:
    """Return the page of a record."""
    parts = [INTRODUCTION.format(version=record["environment"]["transformers"])]
    for head, outcomes in record["outcomes"].items():
        parts.append(_section(head, outcomes))
    return "\n".join(parts)


def _section(head: str, outcomes: dict[str, dict[str, str]]) -> str:
    tried = {name: found for name, found in outcomes.items() if "not tried" not in found}
    steps = [step for step in STEPS if any(found.get(step, OK) == OK for found in tried.values())]
    lines = [f"## {head.capitalize()}", ""]
    for step in (step for step in STEPS if step not in steps):
        kinds = dict.fromkeys(_kind(found[step]) for found in tried.values())
        lines += [f"The step `{step}` is refused for every model, with one of these sentences:", ""]
        lines += [*(f"- {kind}" for kind in kinds), ""]
    whole = [name for name, found in tried.items() if all(found.get(s, OK) == OK for s in steps)]
    what = "All steps work" if steps == list(STEPS) else "All other steps work"
    lines += [f"{what} for {len(whole)} of {len(outcomes)}:"]
    lines += [", ".join(whole) + "." if whole else "none.", ""]
    notes: dict[str, int] = {}
    if len(whole) < len(tried):
        lines += [f"| model type | {' | '.join(steps)} |", f"|---{'|---' * len(steps)}|"]
        for name in (name for name in tried if name not in whole):
            cells = [_cell(tried[name].get(step, OK), notes) for step in steps]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines += ["", *(f"{number}. {sentence}" for sentence, number in notes.items()), ""]
    for name, found in outcomes.items():
        if "not tried" in found:
            lines.append(f"Not tried: {name} {found['not tried']}.")
    return "\n".join(lines).rstrip() + "\n"


def _cell(found: str, notes: dict[str, int]) -> str:
    """A mark for what works, else the number of the sentence."""
    if found == OK:
        return "ok"
    return f"({notes.setdefault(_kind(found), len(notes) + 1)})"


def _kind(sentence: str) -> str:
    """The sentence without the class of the model, so that many models share one."""
    return re.sub(r"\b[A-Z]\w*For[A-Z]\w*", "the model", sentence)
