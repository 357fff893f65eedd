"""The run launcher. Belongs here: telling Dagster's run monitoring whether a run's process is still alive.

Dagster's default launcher cannot tell, so a run whose code server died together with it would stay
"started" for ever. This one asks the code server that started the run.
"""

import time

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

PROBE_TIMEOUT = 10  # seconds
SILENCE = 900.0  # seconds; a drain that commits anything says so every half minute


class HealthCheckedRunLauncher(DefaultRunLauncher):
    """Launches runs as Dagster does by default, and knows how they are."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process lives.

        While the code server cannot be reached the answer is RUNNING: a retry launched now would fail for the
        same reason, and Dagster gives up for good after that. But a server on a socket, as `dagster dev` starts
        them, never comes back to it.
        """
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return self._health_by_ear(run)
        request = CanCancelExecutionRequest(run_id=run.run_id)
        try:
            answer = deserialize_value(
                client.can_cancel_execution(request, timeout=PROBE_TIMEOUT), CanCancelExecutionResult
            )
        except DagsterUserCodeUnreachableError as error:
            if client.socket and "UNAVAILABLE" in str(error):
                return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "the code server on its socket is gone")
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the code server cannot be reached")
        if answer.can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "the code server does not know this run: its process is gone"
        )

    def _health_by_ear(self, run: DagsterRun) -> CheckRunHealthResult:
        """A run that has ended, or one that no code server started (`ingestion backfill --here`): nobody can be asked."""
        now = self._instance.get_run_by_id(run.run_id)
        if now is None or now.is_finished:
            return CheckRunHealthResult(WorkerStatus.SUCCESS, "the run has ended")
        last = self._instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        if last and time.time() - last[0].event_log_entry.timestamp > SILENCE:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "a run without a code server fell silent")
        return CheckRunHealthResult(WorkerStatus.RUNNING, "no code server knows this run")
