"""The trainings of a comparison as jobs of SLURM, by submitit. No scheduler lives here."""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from itrd_nlp.compare.arguments import SubmitArguments
from itrd_nlp.compare.job import Job
from itrd_nlp.compare.launching import LOG_NAME, Launcher, NotNow, Started, prepared, with_token
from itrd_nlp.compare.plan import Cell
from itrd_nlp.errors import UserError
from itrd_nlp.files import read_json, write_json

JOB_NAME = "job.json"
"""In the folder of a training: the job that trains it, so that a comparison that is started again finds it."""
SUBMITIT_FOLDER = "submitit"
RENEWALS = 1000
"""How often a job whose time is over is queued again. submitit would stop after three times."""
_FAILED = 1


class Cluster(Launcher):
    """Starts each training as a job.

    Args:
        submit: where, and what a job may use.
        program: the words that start `itrd-nlp`.
        folder: of the comparison. submitit keeps its files in a folder of it.

    Raises:
        UserError: submitit is not installed, or there is no SLURM on this machine.
    """

    def __init__(self, submit: SubmitArguments, program: Sequence[str], folder: Path) -> None:
        self.kind, self.program = str(submit.submit), program
        try:
            from submitit import AutoExecutor
        except ImportError:
            raise UserError(
                f"submit is {self.kind!r}, but submitit is not installed; run pip install 'itrd_nlp[slurm]', or leave "
                "submit out."
            ) from None
        self.files = folder / SUBMITIT_FOLDER
        try:
            self.executor = AutoExecutor(
                folder=self.files, cluster=self.kind, slurm_max_num_timeout=RENEWALS
            )
            self.executor.update_parameters(**_parameters(submit))
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(
                f"submit is {self.kind!r}, but: {' '.join(str(error).split())}"
            ) from None

    def start(self, cell: Cell, jobs: int) -> Started:
        """See `Launcher.start`. A job that an earlier comparison has left behind is waited for, and none is added."""
        job = self._left_behind(cell)
        if job is not None:
            return _ClusterTraining(cell, job)
        words = prepared(cell, self.program)
        try:
            with with_token(cell):
                job = self.executor.submit(Job(words, cell.folder.absolute() / LOG_NAME))
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            raise NotNow(
                f"{cell.name} could not be submitted: {' '.join(str(error).split())}"
            ) from None
        write_json(cell.folder / JOB_NAME, {"submit": self.kind, "job": job.job_id})
        return _ClusterTraining(cell, job)

    def _left_behind(self, cell: Cell) -> Any:
        """The job of an earlier comparison that still waits or runs, None where there is none."""
        path = cell.folder / JOB_NAME
        if self.kind != "slurm" or not path.is_file():
            return None
        from submitit import SlurmJob

        known = read_json(path)
        if known.get("submit") != self.kind:
            return None
        job: SlurmJob[int] = SlurmJob(self.files, str(known["job"]))
        return None if job.done(force_check=True) else job


class _ClusterTraining(Started):
    def __init__(self, cell: Cell, job: Any) -> None:
        super().__init__(cell)
        self.job = job
        self.found: int | None = None

    def code(self) -> int | None:
        if self.found is None and self.job.done():
            try:
                self.found = int(self.job.result())
            except Exception as error:  # of submitit, or of the job: it has no result
                self.found = _FAILED
                reason = " ".join(str(error).split())[:500]
                with (self.cell.folder / LOG_NAME).open("a", encoding="utf-8") as log:
                    log.write(f"error: job {self.job.job_id} ended without a result: {reason}\n")
        return self.found

    def end(self, number: signal.Signals) -> None:
        if self.code() is None:
            self.job.cancel(check=False)


def _parameters(submit: SubmitArguments) -> dict[str, Any]:
    """The options as submitit names them."""
    given = {
        "timeout_min": math.ceil(60 * submit.slurm_hours),  # 0 would be no limit
        "cpus_per_task": submit.slurm_cpus,
        "gpus_per_node": submit.slurm_gpus or None,
        "slurm_partition": submit.slurm_partition,
        "slurm_additional_parameters": submit.slurm_options or None,
        "name": "itrd_nlp",
    }
    return {name: value for name, value in given.items() if value is not None}
