"""A pytest plugin for tests/benchmarks/gpu.py: a line of JSON when a test begins, and one with its outcome.

GPU_REPORT=report.jsonl python -m pytest -p gpu_report ...
"""

import os
import sys
from pathlib import Path

import pytest
from gpu_jobs import Report

report = Report(Path(os.environ["GPU_REPORT"]))


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    report.write(nodeid, "begin")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> object:
    """A test's setup, call or teardown ended."""
    outcome = yield
    found = outcome.get_result()
    if found.when == "call" or found.outcome != "passed":
        words = "" if found.passed else str(found.longrepr if not found.skipped else found.longrepr[-1])
        status = "failed" if found.failed else found.outcome
        report.write(item.nodeid, "end", status=status, error=words[-2_000:], result={"seconds": found.duration})
        if found.failed and any(each in words for each in ("CUDA error", "AcceleratorError")):
            sys.stdout.flush()
            os._exit(3)  # nothing in this process survives an error of the device
