"""Write the tables and plots of `docs/performance.md` from the recorded results."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from itrd_nlp.errors import UserError

Results = dict[str, Any]

# From names in the record to names on the page. A single table shows the first precision with results, and all GPUs.
PRECISIONS = {"bfloat16": "bf16", "float32": "fp32"}
GPU = "cuda"
"""The beginning of the name of a part that comes from a GPU. The name of the GPU follows after a colon."""
BERT = "12 -> 6 layers, 768 wide"
MINILM = "6 -> 3 layers, 384 wide"
SIZES = {"bert": BERT, "minilm": MINILM}
MEASURED = (
    *("train_step_minilm", "train_step_bert", "overhead_minilm", "overhead_bert"),
    *("matmul_share_minilm", "matmul_share_bert", "losses", "decoding", "scaling", "profile"),
)
"""The measurements that record machine and versions."""
CANDIDATES = {
    "itrd": "ITRD + KD",
    "kd": "KD alone",
    "itrd_cached": "ITRD + KD with a filled teacher cache",
    "textbrewer": "TextBrewer with the settings of its example",
    "textbrewer_tuned": "TextBrewer with our batches and precision and no dropout",
    "modelopt": "NVIDIA ModelOpt with our batches and precision and no dropout",
}


def write_page(record: dict[str, Results], docs: Path) -> None:
    """Replace the text between the markers of `performance.md`, and draw `performance.svg`.

    Args:
        record: results of `bench.py`, by precision. A block without results stays unchanged.
        docs: folder of both files.

    Raises:
        UserError: the page lacks a marker.
    """
    path = docs / "performance.md"
    page = path.read_text(encoding="utf-8")
    of_each: dict[str, tuple[Callable[[Results], str], tuple[str, ...]]] = {
        "train_step": (train_step, ("train_step_bert", "train_step_minilm")),
        "overhead": (overhead, ("overhead_minilm", "overhead_bert")),
        "versions": (versions, MEASURED),
    }
    of_the_first: dict[str, tuple[Callable[[Results], str], tuple[str, ...]]] = {
        "profile": (profile, ("profile",)),
        "losses": (losses, ("losses",)),
        "decoding": (decoding, ("decoding",)),
        "scaling": (scaling, ("scaling", "losses")),
    }
    for name, whole in (("goals", goals), ("gpu", of_gpus), ("not on a gpu", not_on_gpus)):
        page = _replace(page, name, whole(record))
    for name, (block, needed) in of_each.items():
        parts = [
            f"In {_label(precision)}:\n\n{block(record[precision])}"
            for precision in _measured(record)
            if any(key in record[precision] for key in needed)
        ]
        if parts:
            page = _replace(page, name, "\n\n".join(parts))
    for name, (block, needed) in of_the_first.items():
        complete = [p for p in _measured(record) if all(key in record[p] for key in needed)]
        shown = [p for p in complete if p == complete[0] or p in _gpus(record)]
        if len(shown) == 1:
            page = _replace(page, name, block(record[shown[0]]))
        elif shown:
            parts = [f"In {_label(p)}:\n\n{block(record[p])}" for p in shown]
            page = _replace(page, name, "\n\n".join(parts))
    path.write_text(page, encoding="utf-8")
    curves = _first(record, "scaling", "losses")
    if curves is not None:
        draw(curves, docs / "performance.svg")


def _measured(record: dict[str, Results]) -> list[str]:
    """Return the precisions of a record, in the order of the columns, and then its GPUs."""
    return [precision for precision in PRECISIONS if precision in record] + _gpus(record)


def _gpus(record: dict[str, Results]) -> list[str]:
    return sorted(name for name in record if name.partition(":")[0] == GPU)


def _label(precision: str) -> str:
    """Return the name of a precision on the page, with the GPU if it is that of one."""
    if precision in PRECISIONS:
        return PRECISIONS[precision]
    card = precision.partition(": ")[2]
    return f"bf16 on a GPU ({card})" if card else "bf16 on a GPU"


def of_gpus(record: dict[str, Results]) -> str:
    """Return a sentence about the columns of GPUs in the table of goals."""
    if _gpus(record):
        return '`make bench-gpu` measures the column of a GPU. Rows that it leaves out say "not measured".'
    return "This table has no CUDA figures. [A section](#on-a-gpu) has measurements on a GPU."


def not_on_gpus(record: dict[str, Results]) -> str:
    """Return a sentence that lists what was not measured on a GPU."""
    gpus = [record[name] for name in _gpus(record)]
    steps = [block for gpu in gpus for name, block in gpu.items() if name.startswith("train_step")]
    missing = [
        "a side stream for the teacher",
        "`torch.compile`",
        "a fused kernel",
    ]
    if not any("textbrewer" in block["runs"] for block in steps):
        missing.insert(0, "whole steps against TextBrewer")
    if not any("losses" in gpu for gpu in gpus):
        missing.insert(0, "the losses alone in their present code")
    return f"These were not measured on a GPU: {', '.join(missing[:-1])}, and {missing[-1]}."


def _first(record: dict[str, Results], *needed: str) -> Results | None:
    """Return the results of the first precision that has all these parts."""
    found = [record[name] for name in _measured(record)]
    return next((one for one in found if all(key in one for key in needed)), None)


def goals(record: dict[str, Results]) -> str:
    """Return a table of the goals and of the results in each precision, with their ranges."""
    rows = [
        _goal(record, f"{BERT}: our windows/s / those of TextBrewer with the settings of its example", "≥ 15",
              "train_step_bert", "ratios", "itrd / textbrewer"),
        _goal(record, f"{BERT}: our windows/s / those of TextBrewer with our batches and precision and no dropout",
              "≥ 1.8", "train_step_bert", "ratios", "itrd / textbrewer_tuned"),
        _goal(record, f"{BERT}: our windows/s / those of NVIDIA ModelOpt with our batches and precision and no dropout",
              "≥ 1.2", "train_step_bert", "ratios", "itrd / modelopt"),
        _goal(record, f"{BERT}: windows/s with a filled teacher cache / windows/s without a cache", "≥ 1.5",
              "train_step_bert", "ratios", "itrd_cached / itrd"),
        _goal(record, f"{MINILM}: our windows/s / those of TextBrewer with the settings of its example", "≥ 15",
              "train_step_minilm", "ratios", "itrd / textbrewer"),
        _goal(record, f"{MINILM}: our windows/s / those of TextBrewer with our batches and precision and no dropout",
              "≥ 1.8", "train_step_minilm", "ratios", "itrd / textbrewer_tuned"),
        _goal(record,
              f"{MINILM}: our windows/s / those of NVIDIA ModelOpt with our batches and precision and no dropout",
              "≥ 1.2", "train_step_minilm", "ratios", "itrd / modelopt"),
        _goal(record, f"{MINILM}: windows/s with a filled teacher cache / windows/s without a cache", "≥ 1.5",
              "train_step_minilm", "ratios", "itrd_cached / itrd"),
        _goal(record, f"{MINILM}: time of ITRD + KD / time of KD alone", "≤ 1.03",
              "overhead_minilm", "figures", "seconds", instead=("train_step_minilm", "ratios", "kd / itrd")),
        _goal(record, f"{MINILM}: peak memory of ITRD + KD / peak memory of KD alone", "≤ 1.03",
              "overhead_minilm", "figures", "peak_megabytes"),
        _goal(record, f"{BERT}: time of ITRD + KD / time of KD alone", "≤ 1.03", "overhead_bert", "figures", "seconds",
              instead=("train_step_bert", "ratios", "kd / itrd")),
        _goal(record, f"{BERT}: peak memory of ITRD + KD / peak memory of KD alone", "≤ 1.03",
              "overhead_bert", "figures", "peak_megabytes"),
        _share(record, MINILM, "matmul_share_minilm", "≥ 50 %"),
        _share(record, BERT, "matmul_share_bert", "≥ 65 %"),
        _goal(record, "correlation + MI of 8,192 x 768: seconds of the listing / our seconds", "≥ 5",
              "losses", "ratios", "seconds"),
        _goal(record, "correlation + MI of 8,192 x 768: memory of the listing / our memory", "≥ 20",
              "losses", "ratios", "megabytes"),
        *(
            _goal(record, f"logits to EM/F1 of the dev set: time of {label} / our time", "≥ 30",
                  "decoding", "ratios", f"{name} / ours", "both")
            for name, label in (("utils_qa", "transformers' example"), ("loops", "a leaner form of its loops"))
        ),
    ]  # fmt: skip
    names = [_label(precision) for precision in _measured(record)]
    columns = " | ".join(f"{name}: median, least to most" for name in names)
    head = f"| figure | goal | {columns} |\n|---|---|{'---|' * len(names)}"
    return "\n".join([head, *rows])


def _goal(
    record: dict[str, Results], label: str, goal: str, *keys: str, instead: tuple[str, ...] = ()
) -> str:
    """Return the row of the ratios under some keys, or where there are none of those under others."""
    found = [record[precision] for precision in _measured(record)]
    ratios = [_found(one, (*keys, "ratios")) for one in found]
    if instead:
        others = [_found(one, (*instead, "ratios")) for one in found]
        ratios = [first or other for first, other in zip(ratios, others, strict=True)]
    return _row(label, goal, ratios)


def _share(record: dict[str, Results], label: str, key: str, goal: str) -> str:
    label = f"{label}: share of the machine's matmul rate that a student's step reaches"
    runs = [_found(record[precision], (key, "runs")) for precision in _measured(record)]
    shares = [found and [run["share"] for run in found] for found in runs]
    return _row(label, goal, shares, ".0%")


def _found(results: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        results = results.get(key) if isinstance(results, dict) else None
    return results


def _row(label: str, goal: str, found: list[list[float] | None], form: str = ".2f") -> str:
    cells = [
        f"{statistics.median(ratios):{form}}, {min(ratios):{form}} to {max(ratios):{form}}"
        if ratios
        else "not measured"
        for ratios in found
    ]
    return f"| {label} | {goal} | {' | '.join(cells)} |"


def train_step(results: Results) -> str:
    """Return a table of windows per second and memory of whole training steps, for the measured sizes."""
    keys = {
        f"train_step_{size}": label
        for size, label in SIZES.items()
        if f"train_step_{size}" in results
    }
    lines = [
        "| | " + " | ".join(f"{label}: windows/s | MB" for label in keys.values()) + " |",
        "|---|" + "---|---|" * len(keys),
    ]
    for name, label in CANDIDATES.items():
        runs = [results[key]["runs"].get(name) for key in keys]
        if not any(runs):
            continue
        cells = [
            f"{statistics.median(run[figure] for run in of_size):{form}}"
            if of_size
            else "not measured"
            for of_size in runs
            for figure, form in (("windows_per_second", ".1f"), ("peak_megabytes", ",.0f"))
        ]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def overhead(results: Results) -> str:
    """Return a table of the seconds of a step and the memory, of ITRD + KD and of KD alone."""
    lines = ["| | KD | ITRD + KD | ratio | least to most |", "|---|---|---|---|---|"]
    for size, label in SIZES.items():
        if f"overhead_{size}" not in results:
            continue
        for name, what in (("seconds", "seconds per step"), ("peak_megabytes", "peak MB")):
            found = results[f"overhead_{size}"]["figures"][name]
            ratios = found["ratios"]
            lines.append(
                f"| {label}: {what} | {found['kd']:,.4g} | {found['itrd']:,.4g} | {found['ratio']:.2f} | "
                f"{min(ratios):.2f} to {max(ratios):.2f} |"
            )
    return "\n".join(lines)


def profile(results: Results) -> str:
    """Return a table of the settings of a step, and a table of the shares of operators."""
    found = results["profile"]
    lines = [
        "| setting | seconds per step | page faults per step | time in the kernel |",
        "|---|---|---|---|",
    ]
    for mode, label in (
        ("clock", "the settings of scripts and configs"),
        ("default_allocator", "glibc's default malloc"),
        ("eager", "transformers' eager attention"),
        ("sdpa", "PyTorch's fused attention"),
        ("dropout", "dropout 0.1"),
    ):
        if mode not in found:
            continue
        run = found[mode]
        lines.append(
            f"| {label} | {run['seconds_per_step']:.2f} | {run['page_faults_per_step']:,.0f} | "
            f"{100 * run['kernel_share']:.0f} % |"
        )
    lines += ["", "| operators | share of the time |", "|---|---|"]
    lines += [
        f"| {kind} | {100 * share:.1f} % |"
        for kind, share in found["profiler"]["shares"].items()
        if share >= 0.005
    ]
    return "\n".join(lines)


def losses(results: Results) -> str:
    """Return a table of seconds and memory, of the losses of this package and of the formulas."""
    found = results["losses"]
    size = found["arguments"]
    lines = [
        f"| {size['samples']:,} x {size['features']}, forward and backward | ours | listing | listing / ours |",
        "|---|---|---|---|",
    ]
    for name, form in (("seconds", ".2f"), ("megabytes", ",.0f")):
        ours, formulas = (
            statistics.median(run[name] for run in found["runs"][candidate])
            for candidate in ("ours", "formulas")
        )
        ratio = found["ratios"][name]["median"]
        form = ".4f" if ours < 0.1 else form  # a GPU needs milliseconds
        lines.append(f"| {name} | {ours:{form}} | {formulas:{form}} | {ratio:.1f} |")
    return "\n".join(lines)


def decoding(results: Results) -> str:
    """Return a table of the seconds from logits to scores."""
    found = results["decoding"]
    labels = {"ours": "this package", "loops": "loops", "utils_qa": "`utils_qa.py` of transformers"}
    lines = ["| | decode, s | score, s | same answers as ours |", "|---|---|---|---|"]
    for name, runs in found["runs"].items():
        seconds = [
            f"{statistics.median(run[what] for run in runs):.2f}" for what in ("decode", "score")
        ]
        equal = f"{100 * found['equal_answers'][name]:.2f} %"
        lines.append(f"| {labels[name]} | {' | '.join(seconds)} | {equal} |")
    return "\n".join(lines)


def scaling(results: Results) -> str:
    """Return tables of tokens per second by length and by batch, and of the losses by samples."""
    lines = ["| length, batch 32 | seconds | tokens/s |", "|---|---|---|"]
    for point in results["scaling"]["length"]:
        lines.append(_point(point, "length"))
    lines += ["", "| batch, length 176 | seconds | tokens/s |", "|---|---|---|"]
    for point in results["scaling"]["batch"]:
        lines.append(_point(point, "batch_size"))
    features = results["losses"]["arguments"]["features"]
    lines += ["", f"| samples of {features} features | seconds | MB |", "|---|---|---|"]
    for n, (run,) in results["losses"]["sweep"].items():
        lines.append(f"| {int(n):,} | {run['seconds']:.4f} | {run['megabytes']:,.0f} |")
    return "\n".join(lines)


def _point(point: dict[str, float], name: str) -> str:
    return f"| {point[name]} | {point['seconds']:.3f} | {point['tokens_per_second']:,.0f} |"


def versions(results: Results) -> str:
    """Return one line about machine and versions, those of the first measurement that recorded them."""
    known = next(results[name]["environment"] for name in MEASURED if name in results)
    machine = known["machine"]
    packages = ", ".join(
        f"{name} {version}" for name, version in known.items() if name != "machine"
    )
    return f"{machine}; {packages}."


def draw(results: Results, path: Path) -> None:
    """Draw three plots side by side: tokens per second by length and by batch, and the losses by samples."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "itrd_nlp"  # makes the file reproducible
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, what, label in (
        (axes[0], "length", "length of the windows"),
        (axes[1], "batch_size", "windows per batch"),
    ):
        points = results["scaling"]["length" if what == "length" else "batch"]
        axis.plot([p[what] for p in points], [p["tokens_per_second"] for p in points], "o-")
        axis.set(xlabel=label, ylabel="tokens/s", ylim=(0, None))
    sweep = {int(n): run[0] for n, run in results["losses"]["sweep"].items()}
    axes[2].loglog(list(sweep), [run["seconds"] for run in sweep.values()], "o-", label="seconds")
    axes[2].loglog(list(sweep), [run["megabytes"] for run in sweep.values()], "s--", label="MB")
    axes[2].set(xlabel="samples in both losses")
    axes[2].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _replace(page: str, name: str, block: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        raise UserError(f"docs/performance.md lacks the markers {begin} and {end}.")
    return pattern.sub(lambda _: f"{begin}\n{block}\n{end}", page)
