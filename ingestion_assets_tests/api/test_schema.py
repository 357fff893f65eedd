"""Whatever is asked, within the documented parameters and beside them, is no server error: schemathesis against /openapi.json."""

import subprocess
import sys
from pathlib import Path

import pytest

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.mark.parametrize(
    ("phases", "examples"),
    [("coverage", 1), pytest.param("examples,coverage,fuzzing,stateful", 300, marks=pytest.mark.drill)],
)
def test_no_documented_question_is_a_server_error(api, phases, examples, tmp_path):
    """Every parameter at and beyond its bounds; in the drill, hundreds of questions more for each route."""
    done = subprocess.run(
        [
            SCHEMATHESIS, "run", f"{api.base_url}/openapi.json", "--checks", "not_a_server_error,response_schema_conformance",
            "--phases", phases, "--max-examples", str(examples), "--mode", "all",
            "--generation-deterministic", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout
