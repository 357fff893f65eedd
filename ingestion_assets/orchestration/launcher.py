"""The run launcher. Belongs here: telling Dagster's run monitoring whether a run's process is still alive.

Dagster's default launcher cannot tell, so a run whose code server died together with it would stay
"started" for ever. This one asks the code server that started the run.
"""

from dagster import DagsterRun, DefaultRunLauncher
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, WorkerStatus
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

PROBE_TIMEOUT = 10  # seconds


class HealthCheckedRunLauncher(DefaultRunLauncher):
    """Launches runs as Dagster does by default, and knows how they are."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """It does."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process lives.

        While the code server cannot be reached the answer is RUNNING: a retry launched now would fail for the
        same reason, and Dagster gives up for good after that.
        """
        client = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            return CheckRunHealthResult(WorkerStatus.SUCCESS, "the run has ended")
        request = CanCancelExecutionRequest(run_id=run.run_id)
        try:
            answer = deserialize_value(
                client.can_cancel_execution(request, timeout=PROBE_TIMEOUT), CanCancelExecutionResult
            )
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "the code server cannot be reached")
        if answer.can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND, "the code server does not know this run: its process is gone"
        )
