"""The command that opens the demo: what stands first is its model, unless it is a config."""

from __future__ import annotations

from pathlib import Path

import pytest

from itrd_nlp.cli.commands import demo


@pytest.mark.parametrize(
    ("first", "served"),
    [("page.yaml", "a/student"), ("page.YML", "a/student"), ("page.YAML", "a/student")]
    + [(name, name) for name in ("runs/my_student", "runs/v1.5", "USER/NAME")],
)
def test_what_stands_first_is_the_model_unless_it_is_a_config(
    first: str, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if first.startswith("page"):
        Path(first).write_text("model: a/student\n")
    found = []
    monkeypatch.setattr(demo, "_serve", lambda model, args: found.append((model, args.port)))
    monkeypatch.setattr("sys.argv", ["demo.py", first, "--port", "7861"])
    demo.main()
    assert found == [(served, 7861)]
