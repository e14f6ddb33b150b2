"""The YAML of a comparison: one budget for all, and what is refused before anything is trained."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from itrd_nlp import files
from itrd_nlp.cli import parser
from itrd_nlp.cli.comparison import setting_of
from itrd_nlp.compare import comparison, runner
from itrd_nlp.compare.arguments import CompareArguments
from itrd_nlp.compare.comparison import check_inputs, choose
from itrd_nlp.compare.launching import Launcher, LocalProcesses, NotNow, Started
from itrd_nlp.compare.plan import TUNABLE, Plan
from itrd_nlp.compare.runner import Stopped, run_cells, time_left
from itrd_nlp.compare.setting import write_config
from itrd_nlp.errors import UserError
from itrd_nlp.files import write_json
from itrd_nlp.training import yaml_files

SETTING = setting_of("question-answering")
METHODS = {"kd": {"beta_corr": 0, "beta_mi": 0}, "itrd": {}}
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def make(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Parse a comparison as the script does."""
    monkeypatch.chdir(workplace)

    def make(*flags: str, **changes: Any) -> CompareArguments:
        content = {"base": "base.yaml", "output_dir": str(tmp_path / "out"), "methods": METHODS}
        path = tmp_path / "compare.yaml"
        path.write_text(yaml.safe_dump(content | {"seeds": [0, 1]} | changes, sort_keys=False))
        (args,) = parser.parse([CompareArguments], [str(path), *flags])
        return args

    return make


def test_a_training_for_each_student_method_and_seed_one_seed_after_the_other(make: Any) -> None:
    students = {"T1": {"num_layers": 1}, "T2": {"num_layers": 2}}
    plan = Plan(make(students=students), SETTING)
    cells = plan.cells(plan.nothing_chosen())
    assert [cell.name for cell in cells] == [
        *("T1/kd/seed0", "T1/itrd/seed0", "T2/kd/seed0", "T2/itrd/seed0"),
        *("T1/kd/seed1", "T1/itrd/seed1", "T2/kd/seed1", "T2/itrd/seed1"),
    ]
    assert len({cell.folder for cell in cells}) == 8
    assert plan.search() == plan.cost(plan.nothing_chosen()) == []


@pytest.mark.parametrize("name", ["speedup", "max_ms", "max_mb"])
def test_a_depth_that_each_training_would_measure_is_refused(make: Any, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is set, but each training would measure it"):
        Plan(make(students={"fast": {name: 2}}), SETTING)


def test_a_method_of_textbrewer_has_the_budget_and_its_own_recipe(make: Any) -> None:
    plan = Plan(make(textbrewer={"tb": {"temperature": 4}}, cost_steps=3), SETTING)
    cells = {cell.method: cell for cell in plan.cells(plan.nothing_chosen())}
    tb, kd = cells["tb"], cells["kd"]
    assert (tb.command, kd.command) == ("train-textbrewer", "train-squad")
    assert tb.config["temperature"] == 4
    budget = ("learning_rate", "per_device_train_batch_size", "num_train_epochs", "num_layers")
    assert all(tb.config[name] == kd.config[name] for name in budget)
    assert not {name for name in tb.config if "cache" in name or "beta" in name}
    assert not {n for cell in plan.cost(plan.nothing_chosen()) if cell.method == "tb"
                for n in cell.config if "cache" in n}  # fmt: skip


@pytest.mark.parametrize(
    ("textbrewer", "sentence"),
    [
        ({"kd": {}}, "'kd' is in methods and in textbrewer"),
        ({"tb": {"beta_corr": 1}}, "method tb sets beta_corr, but that is part of the budget"),
        ({"tb": {"temperatur": 1}}, "no option of train-textbrewer; did you mean temperature"),
        ({"tb": {"temperature": -1}}, "temperature is -1.0, but must be"),
    ],
)
def test_what_textbrewer_does_not_take_is_refused(
    make: Any, textbrewer: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        Plan(make(textbrewer=textbrewer), SETTING)


def test_configs_are_the_base_but_for_method_student_seed_and_folder(make: Any) -> None:
    plan = Plan(make(students={"T1": {"num_layers": 1}}), SETTING)
    kd, itrd, *_ = plan.cells(plan.nothing_chosen())
    base = yaml.safe_load(Path("base.yaml").read_text())
    differ = {name for name in kd.config if kd.config[name] != base.get(name)}
    assert differ == {
        *("beta_corr", "beta_mi", "num_layers", "seed", "output_dir"),
        *("teacher_cache", "teacher_cache_dir", "disable_tqdm"),
    }
    assert {n for n in kd.config if kd.config[n] != itrd.config.get(n)} == {
        *("beta_corr", "beta_mi", "output_dir"),
    }
    assert kd.overrides == METHODS["kd"]


@pytest.mark.parametrize(
    "name",
    [
        *("train_file", "max_train_samples", "num_train_epochs", "per_device_train_batch_size"),
        *(
            "learning_rate",
            "lr_scheduler_type",
            "warmup_steps",
            "student_init",
            "num_layers",
            "seed",
        ),
        *("teacher", "bf16", "max_steps", "weight_decay", "teacher_cache", "data_subset_seed"),
    ],
)
def test_the_budget_is_not_for_a_method_to_change(make: Any, name: str) -> None:
    with pytest.raises(UserError, match=f"method itrd sets {name}, but that is part of the budget"):
        Plan(make(methods=METHODS | {"itrd": {name: 1}}), SETTING)
    if name in TUNABLE:
        return
    with pytest.raises(UserError, match=f"method itrd sets {name}, but that is part of the budget"):
        Plan(make(search={"kd": [{}], "itrd": [{name: 1}]}), SETTING)


def test_a_try_of_a_search_may_have_a_learning_rate_of_its_own(make: Any) -> None:
    tries = {"kd": [{"learning_rate": 6e-4}, {}], "itrd": [{}, {"learning_rate": 1e-4}]}
    plan = Plan(make(search=tries), SETTING)
    base = yaml.safe_load(Path("base.yaml").read_text())["learning_rate"]
    rates = [cell.config["learning_rate"] for cell in plan.search()]
    assert rates == [6e-4, base, base, 1e-4]
    chosen = {("student", "kd"): {"learning_rate": 6e-4}, ("student", "itrd"): {}}
    assert [c.config["learning_rate"] for c in plan.cells(chosen)][:2] == [6e-4, base]


def test_a_method_may_choose_everything_of_the_objective() -> None:
    assert {
        *("w_task", "w_kd", "temperature", "beta_corr", "beta_mi", "alpha", "layer_map", "mi_view"),
        *("projection_init", "layer_reduction"),
    } <= SETTING.objective


BAD = [
    ({"base": "nowhere.yaml"}, "base nowhere.yaml does not exist"),
    ({"methods": {"kd": {"beta_cor": 0}}}, "method kd sets 'beta_cor'.*did you mean beta_corr"),
    ({"methods": {"kd": {"beta_corr": "much"}}}, "student/kd: beta_corr is 'much', but must be"),
    ({"methods": {"kd": {"beta_corr": -1}}}, "student/kd: beta_corr is -1.0"),
    ({"methods": {"kd": 1}}, "methods.kd is 1, but must be a mapping"),
    ({"methods": {}}, "methods is empty"),
    ({"methods": {"kd": {}, "teacher": {}}}, "'teacher' names a method, but the tables give"),
    ({"methods": {"itrd": {}}}, "reference is 'kd', but must be one of the methods itrd"),
    ({"methods": {"kd": {}, "../up": {}}}, "'../up' names a method"),
    ({"students": {"T1": {"seed": 1}}}, "student T1 sets seed, but the comparison sets that"),
    ({"students": {"T1": {"layers": 1}}}, "student T1 sets 'layers', which is no option"),
    ({"students": {"T1": {"num_layers": "x"}}}, "T1/kd: num_layers is 'x', but must be int"),
    ({"seeds": [0, 0]}, "seeds are .*once"),
    ({"seeds": []}, "seeds is empty"),
    ({"jobs": 0}, "jobs is 0, but must be at least 1"),
    ({"table": ["f1", "f2"]}, "table names 'f2', but its columns are"),
    ({"search": {"kd": [{}]}}, "search and methods differ in 'itrd'"),
    (
        {"search": {"kd": [{"temperature": 1}], "itrd": [{"alpha": 1}, {"alpha": 2}]}},
        "search has 1 tries for kd, 2 tries for itrd, but must have equally many",
    ),
    ({"search": {"kd": [{"temperature": 0}], "itrd": [{}]}}, "student/kd: temperature is 0"),
    ({"teacher_cache": "perhaps"}, "teacher_cache is 'perhaps'"),
    ({"method": {}}, "there is no option 'method'; did you mean methods"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD)
def test_what_makes_no_sense_is_refused_in_one_sentence_and_nothing_is_written(
    make: Any, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        Plan(make(**changes), SETTING)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["base", "students"])
@pytest.mark.parametrize("value", [True, "yes"])
def test_students_that_would_overwrite_each_other_on_the_hub_are_refused(
    make: Any, tmp_path: Path, where: str, value: object
) -> None:
    hub = {"push_to_hub": value, "hub_model_id": "me/student"}
    if where == "base":
        base = yaml.safe_load(Path("base.yaml").read_text())
        (tmp_path / "hub.yaml").write_text(yaml.safe_dump(base | hub))
        args = make(base=str(tmp_path / "hub.yaml"))
    else:
        args = make(students={"T1": hub})
    with pytest.raises(UserError, match=r"push_to_hub is true.*itrd-nlp push-to-hub"):
        Plan(args, SETTING)


def test_a_comparison_that_would_begin_anew_whenever_it_goes_on_is_refused(make: Any) -> None:
    students = {"T1": {"overwrite_output_dir": True}}
    with pytest.raises(
        UserError, match=r"overwrite_output_dir is true, but.*remove .*out to train"
    ):
        Plan(make(students=students), SETTING)


def test_a_repository_without_a_push_is_no_reason_to_refuse(make: Any) -> None:
    students = {"T1": {"push_to_hub": False, "hub_model_id": "me/student"}}
    assert Plan(make(students=students), SETTING).cells({("T1", "kd"): {}})


@pytest.mark.parametrize(
    ("task", "written", "meant"),
    [
        ("classification", {"metrics": "accuracy"}, {"metrics": ["accuracy"]}),
        ("classification", {"validation_splits": "test"}, {"validation_splits": ["test"]}),
        ("classification", {"max_eval_samples": 1e3}, {"max_eval_samples": 1000}),
        ("question-answering", {"max_eval_samples": "20"}, {"max_eval_samples": 20}),
    ],
)
def test_data_are_read_by_the_same_rules_for_the_judge_as_for_the_training(
    tmp_path: Path, task: str, written: dict[str, Any], meant: dict[str, Any]
) -> None:
    setting = setting_of(task)
    files = {"train_file": "train.json", "validation_file": "dev.json"}
    config = files | written | {"teacher": "teacher", "output_dir": "out", "use_cpu": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    words = [str(tmp_path / "config.yaml"), *setting.itrd.options]
    parsed = parser.parse(setting.itrd.groups, words)
    (training,) = (args for args in parsed if isinstance(args, setting.task.arguments))
    judge = setting.data(config)
    assert judge == training
    for name, value in meant.items():
        found = getattr(judge, name)
        assert (found, type(found)) == (value, type(value))


def test_a_search_is_judged_on_questions_held_out_of_train_never_on_dev(make: Any) -> None:
    tries = {"kd": [{"temperature": 1}, {"temperature": 4}], "itrd": [{"alpha": 1.5}, {"alpha": 2}]}
    plan = Plan(make(search=tries, holdout_questions=6, cost_steps=3), SETTING)
    search, cells = plan.search(), plan.cells(plan.nothing_chosen())
    costs = plan.cost(plan.nothing_chosen())
    assert [cell.name for cell in search] == [
        *("student/kd/try0", "student/kd/try1", "student/itrd/try0", "student/itrd/try1"),
    ]
    assert all(cell.config["evaluate_on_holdout"] for cell in search)
    assert not any(cell.config["evaluate_on_holdout"] for cell in cells)
    assert {c.config["holdout_questions"] for c in [*search, *cells, *costs]} == {6}
    assert search[1].overrides == METHODS["kd"] | {"temperature": 4}
    assert {cell.config["seed"] for cell in search} == {0}


def test_a_model_of_a_student_is_no_folder_for_the_results(make: Any, workplace: Path) -> None:
    before = sorted(path.name for path in (workplace / "teacher").iterdir())
    students = {"T1": {"teacher": "teacher"}}
    args = make(students=students, output_dir="teacher", base="other.yaml")
    base = yaml.safe_load((workplace / "base.yaml").read_text()) | {"teacher": "elsewhere"}
    (workplace / "other.yaml").write_text(yaml.safe_dump(base))
    with pytest.raises(UserError, match="output_dir teacher is the folder of"):
        comparison.compare(args, [], SETTING, Console(quiet=True))
    assert sorted(path.name for path in (workplace / "teacher").iterdir()) == before


def test_the_best_try_is_chosen_and_none_while_one_is_missing(make: Any) -> None:
    tries = {"kd": [], "itrd": [{"alpha": 1.1}, {"alpha": 1.5}, {"alpha": 2.0}]}
    plan = Plan(make(search=tries), SETTING)
    search = plan.search()
    for cell, f1 in zip(search[:2], (40.0, 41.0), strict=True):
        finish(cell, f1=f1)
    assert choose(plan, search) == {("student", "kd"): {}}
    finish(search[2], f1=41.0)
    assert choose(plan, search) == {("student", "kd"): {}, ("student", "itrd"): {"alpha": 1.5}}
    chosen = plan.cells(choose(plan, search))[1]
    assert chosen.config["alpha"] == chosen.overrides["alpha"] == 1.5


def finish(cell: Any, **results: Any) -> None:
    """Leave what a finished training leaves."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_config(cell.folder / "config.yaml", cell.config)
    text = (cell.folder / "config.yaml").read_text()
    write_json(cell.folder / "results.json", {"config": {"text": text}, **results})


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the finished trainings that a comparison writes down, in place of its files."""
    found: list[list[str]] = []

    def collect(_: Any, cells: Any, costs: Any) -> tuple[list[Any], dict[str, Any]]:
        found.append([cell.name for cell in cells if cell.results() is not None])
        return [], {}

    monkeypatch.setattr(comparison, "collect", collect)
    return found


def test_a_stop_in_the_search_of_a_new_method_keeps_the_trainings_of_the_others(
    make: Any, written: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = {"kd": [{"temperature": 4}], "itrd": [{"alpha": 1.5}]}
    args = make(search=tries, seeds=[0], holdout_questions=6)
    plan = Plan(args, SETTING)
    finish(plan.search()[0], f1=40.0)
    finish(plan.cells({("student", "kd"): {"temperature": 4}})[0], f1=41.0)

    def stopped(*_: Any, **__: Any) -> None:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(comparison, "run_cells", stopped)
    with pytest.raises(Stopped):
        comparison.compare(args, [], SETTING, Console(quiet=True))
    assert written == [["student/kd/try0", "student/kd/seed0"]]


def test_a_folder_of_another_config_is_refused_before_the_first_training(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(make(cost_steps=3), SETTING)
    finish(plan.cost(plan.nothing_chosen())[0], f1=1.0)
    monkeypatch.setattr(comparison, "run_cells", lambda *_, **__: pytest.fail("trains"))
    with pytest.raises(UserError, match="finished training with max_steps = 3, not 5"):
        comparison.compare(make(cost_steps=5), [], SETTING, Console(quiet=True))


def test_what_was_trained_is_written_down_where_an_error_ends_a_comparison(
    make: Any, written: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = make(seeds=[0])

    def run_some(cells: Any, **_: Any) -> list[Any]:
        for cell in cells[:1]:
            finish(cell, f1=1.0)
        if cells:
            raise UserError("the others were refused alike")
        return []

    monkeypatch.setattr(comparison, "run_cells", run_some)
    with pytest.raises(UserError, match="refused alike"):
        comparison.compare(args, [], SETTING, Console(quiet=True))
    assert written == [["student/kd/seed0"]]


def test_a_base_may_name_its_task_and_no_other(make: Any) -> None:
    base = yaml.safe_load(Path("base.yaml").read_text())
    path = Path("with_task.yaml")
    path.write_text(yaml.safe_dump(base | {"task": "question-answering"}))
    assert "task" not in Plan(make(base=str(path)), SETTING).base
    path.write_text(yaml.safe_dump(base | {"task": "reranking"}))
    with pytest.raises(UserError, match="of the task reranking, but the comparison has the task"):
        Plan(make(base=str(path)), SETTING)


def test_checkpoints_of_a_training_that_ended_alone_are_removed(make: Any) -> None:
    plan = Plan(make(seeds=[0]), SETTING)
    cells = plan.cells(plan.nothing_chosen())
    for cell in cells:
        finish(cell, f1=1.0)
        (cell.folder / "checkpoint-5").mkdir()
    launcher: Any = None
    assert run_cells(cells, launcher=launcher, jobs=1, console=Console(quiet=True)) == []
    assert not any((cell.folder / "checkpoint-5").exists() for cell in cells)


class Refuses(Launcher):
    """A scheduler that takes a job only while no other one runs."""

    def __init__(self) -> None:
        self.running = 0
        self.refused = 0

    def start(self, cell: Any, jobs: int) -> Started:
        if self.running:
            self.refused += 1
            raise NotNow(f"{cell.name} could not be submitted: too many jobs")
        self.running += 1
        return Training(cell, self)


class Training(Started):
    """Is over when it is looked at for the second time."""

    def __init__(self, cell: Any, launcher: Refuses) -> None:
        super().__init__(cell)
        self.launcher, self.looks = launcher, 0

    def code(self) -> int | None:
        self.looks += 1
        if self.looks < 2:
            return None
        if self.looks == 2:
            self.launcher.running -= 1
            finish(self.cell, f1=1.0, exact_match=1.0)
        return 0

    def end(self, number: Any) -> None:
        pytest.fail("a training was ended")


def test_a_job_that_a_scheduler_refuses_is_submitted_later_and_ends_no_other(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    plan = Plan(make(), SETTING)
    cells, launcher = plan.cells(plan.nothing_chosen()), Refuses()
    assert run_cells(cells, launcher=launcher, jobs=4, console=Console(quiet=True)) == []
    assert all(cell.results() is not None for cell in cells)
    assert launcher.refused > 0
    launcher.running = 1  # of somebody else, so that no end of ours changes anything
    (cells[0].folder / "results.json").unlink()
    with pytest.raises(NotNow, match="student/kd/seed0 could not be submitted"):
        run_cells(cells, launcher=launcher, jobs=4, console=Console(quiet=True))


class Told(Started):
    """Ends when it was told to by two signals."""

    def __init__(self, cell: Any) -> None:
        super().__init__(cell)
        self.signals: list[Any] = []

    def code(self) -> int | None:
        return 1 if len(self.signals) == 2 else None

    def end(self, number: Any) -> None:
        self.signals.append(number)


def test_of_two_signals_at_the_same_time_the_first_lets_a_training_save(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that is closed sends SIGHUP beside the SIGTERM of a cluster."""
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    plan = Plan(make(), SETTING)
    cell = plan.cells(plan.nothing_chosen())[0]
    training = Told(cell)

    class Starts(Launcher):
        def start(self, cell: Any, jobs: int) -> Started:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            return training

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    try:
        with pytest.raises(Stopped):
            run_cells([cell], launcher=Starts(), jobs=1, console=Console(quiet=True))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert training.signals == [signal.SIGTERM, signal.SIGKILL]


def test_a_token_of_the_base_is_in_no_file_and_reaches_the_training(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_KEPT_OUT", set())
    monkeypatch.delenv("HF_TOKEN", raising=False)
    token = "ordinary-words-of-mine"
    base = yaml.safe_load(Path("base.yaml").read_text())
    Path("with_token.yaml").write_text(yaml.safe_dump(base | {"hub_token": token}))
    plan = Plan(make(base="with_token.yaml"), SETTING)
    cell = plan.cells(plan.nothing_chosen())[0]
    code = "import os, hashlib; print(hashlib.sha256(os.environ['HF_TOKEN'].encode()).hexdigest())"
    program = [sys.executable, "-c", code]
    lock = os.open("base.yaml", os.O_RDONLY)
    launcher = LocalProcesses(program, lock)
    run_cells([cell], launcher=launcher, jobs=1, console=Console(quiet=True))
    os.close(lock)
    assert hashlib.sha256(token.encode()).hexdigest() in (cell.folder / "train.log").read_text()
    assert (cell.folder / "config.yaml").is_file()
    for path in (path for path in cell.folder.rglob("*") if path.is_file()):
        assert token.encode() not in path.read_bytes(), path


def test_what_is_written_for_a_training_is_read_back_as_it_was(tmp_path: Path) -> None:
    config = {"learning_rate": 2e-4, "a": "2e-4", "b": "no", "layer_map": ["1:4"], "c": None}
    write_config(tmp_path / "config.yaml", config)
    assert yaml_files.read_yaml(str(tmp_path / "config.yaml")) == config
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config


def test_a_cell_is_finished_by_results_of_the_same_config(make: Any) -> None:
    plan = Plan(make(), SETTING)
    cell = plan.cells(plan.nothing_chosen())[0]
    assert cell.results() is None
    finish(cell, f1=40.0)
    assert cell.results().scores["f1"] == 40.0
    # How the teacher is read is no other experiment.
    moved = Plan(make(teacher_cache="off"), SETTING)
    assert moved.cells(moved.nothing_chosen())[0].results() is not None
    other = Plan(make(methods={"kd": {"beta_corr": 0, "beta_mi": 0, "temperature": 4}}), SETTING)
    with pytest.raises(UserError, match="finished training with temperature = None, not 4; remove"):
        other.cells(other.nothing_chosen())[0].results()


def test_a_list_of_one_value_and_the_value_alone_are_one_config(make: Any) -> None:
    listed = Plan(make(students={"T3": {"layer_map": ["last"]}}), SETTING)
    finish(listed.cells(listed.nothing_chosen())[0], f1=40.0)
    alone = Plan(make(students={"T3": {"layer_map": "last"}}), SETTING)
    assert alone.cells(alone.nothing_chosen())[0].results().scores["f1"] == 40.0
    two = Plan(make(students={"T3": {"layer_map": ["last", "last"]}}), SETTING)
    with pytest.raises(UserError, match="finished training with layer_map = "):
        two.cells(two.nothing_chosen())[0].results()


def test_the_cost_is_measured_by_few_steps_without_the_cache(make: Any) -> None:
    plan = Plan(make(cost_steps=5), SETTING)
    costs = plan.cost(plan.nothing_chosen())
    assert [cell.name for cell in costs] == ["student/kd/seed0", "student/itrd/seed0"]
    assert {cell.config["max_steps"] for cell in costs} == {5}
    assert {cell.config["teacher_cache"] for cell in costs} == {"off"}


def test_all_trainings_share_the_cache_of_the_base_or_one_in_the_output_folder(
    make: Any, tmp_path: Path
) -> None:
    def folders() -> set[str]:
        plan = Plan(make(), SETTING)
        return {c.config["teacher_cache_dir"] for c in plan.cells(plan.nothing_chosen())}

    assert folders() == {str(tmp_path / "out" / "teacher_cache")}
    base = yaml.safe_load(Path("base.yaml").read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base | {"teacher_cache_dir": "mine"}))
    plan = Plan(make(base=str(tmp_path / "base.yaml")), SETTING)
    assert {c.config["teacher_cache_dir"] for c in plan.cells(plan.nothing_chosen())} == {"mine"}


def test_the_models_of_every_training_are_looked_at_and_no_others(make: Any) -> None:
    """The teacher of the base is nobody's where each student has another one."""
    base = yaml.safe_load(Path("base.yaml").read_text())
    there = base["teacher"]
    Path("no_teacher.yaml").write_text(yaml.safe_dump(base | {"teacher": "runs/teacher_minilm"}))

    def check(**student: Any) -> None:
        plan = Plan(
            make(base="no_teacher.yaml", students={"T2": {"num_layers": 2} | student}), SETTING
        )
        check_inputs(SETTING, plan.cells(plan.nothing_chosen()))

    check(teacher=there)
    with pytest.raises(UserError, match="train-teacher minilm_teacher"):
        check()
    for name in ("student", "more_teachers"):
        for missing, sentence in (
            ("./none", "does not exist"),
            ("runs/teacher_mpnet", "mpnet_teacher"),
        ):
            with pytest.raises(UserError, match=sentence):
                check(**{"teacher": there, name: missing})


def test_a_finished_training_needs_its_teacher_no_more(make: Any) -> None:
    plan = Plan(make(), SETTING)
    cells = plan.cells(plan.nothing_chosen())
    for cell in cells:
        cell.config["teacher"] = "runs/teacher_minilm"
        cell.folder.mkdir(parents=True)
        text = yaml.safe_dump(cell.config)
        write_json(cell.folder / "results.json", {"f1": 1.0, "config": {"name": "", "text": text}})
    check_inputs(SETTING, cells)
    (cells[0].folder / "results.json").unlink()
    with pytest.raises(UserError, match="train-teacher minilm_teacher"):
        check_inputs(SETTING, cells)


def test_the_base_may_be_a_config_of_the_package(make: Any) -> None:
    for args in (make(base="minilm_t3"), make("--base", "minilm_t3")):
        assert Path(args.base).samefile(CONFIGS / "minilm" / "minilm_t3.yaml")


def test_the_base_may_have_a_base_of_its_own(make: Any, tmp_path: Path) -> None:
    inherited = os.path.relpath(Path("base.yaml").absolute(), tmp_path)
    (tmp_path / "longer.yaml").write_text(f"base: {inherited}\nnum_train_epochs: 7\n")
    plan = Plan(make(base=str(tmp_path / "longer.yaml")), SETTING)
    assert plan.base == yaml.safe_load(Path("base.yaml").read_text()) | {"num_train_epochs": 7}
    assert {c.config["num_train_epochs"] for c in plan.cells(plan.nothing_chosen())} == {7}


def test_the_base_may_be_named_from_the_folder_of_the_comparison(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "budget.yaml").write_text(Path("base.yaml").read_text())
    monkeypatch.chdir(tmp_path / "shared")
    assert Plan(make(base="shared/budget.yaml"), SETTING).args.base == "budget.yaml"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("compare/*.yaml")), ids=lambda path: path.stem)
def test_the_configs_of_the_repository_are_plans(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # they find their base from any folder
    (args,) = parser.parse([CompareArguments], [str(path)])
    plan = Plan(args, setting_of(args.task))
    assert plan.cells(plan.nothing_chosen())


def test_the_time_left_is_that_of_the_mean_training() -> None:
    assert time_left([], [5.0], 3, 1) is None
    assert time_left([10.0, 20.0], [], 3, 1) == 45
    assert time_left([10.0], [4.0], 2, 1) == 26
    assert time_left([10.0], [4.0, 1.0], 1, 2) == 16  # the first to be ready takes it
    assert time_left([10.0], [30.0], 0, 1) == 0
