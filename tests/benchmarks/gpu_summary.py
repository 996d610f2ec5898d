"""What tests/benchmarks/gpu.py found, as summary.json, summary.txt and curves.png."""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

Found = dict[str, dict[str, Any]]  # group -> job -> {"status", "error", "result"}


def measured(found: Found, job: str) -> float | None:
    """Steps/s of a job of the table; None where it was not measured."""
    about = found.get("table", {}).get(job)
    return per_second(about) if about else None


def per_second(about: dict[str, Any]) -> float | None:
    """Units a second of a job's result, if it has any."""
    return about.get("result", {}).get("per_second") if about["status"] == "passed" else None


def curve(folder: Path) -> list[dict[str, float]]:
    """A run's evaluations: step, seconds since its start and eval/return."""
    try:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        clock = [json.loads(line) for line in (folder / "clock.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return []
    seconds = {line["step"]: line.get("seconds", line.get("time/seconds")) for line in clock}
    known = sorted(step for step, each in seconds.items() if each is not None)
    found = []
    for line in lines:
        if "eval/return" in line:
            near = [step for step in known if step <= line["step"]] or known[:1]
            at = seconds[near[-1]] if near else None
            found.append({"step": line["step"], "seconds": at, "return": line["eval/return"]})
    return found


def write(folder: Path, about: dict[str, Any], found: Found) -> None:
    """Write summary.json and summary.txt, each whole or not at all."""
    whole = {"about": about, "counts": {group: counts(jobs) for group, jobs in found.items()}, "found": found}
    for name, text in (("summary.json", json.dumps(whole, indent=1) + "\n"), ("summary.txt", page(about, found))):
        (folder / f".{name}").write_text(text)
        os.replace(folder / f".{name}", folder / name)


def counts(jobs: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many jobs ended how."""
    return dict(Counter(about["status"] for about in jobs.values()))


def page(about: dict[str, Any], found: Found) -> str:
    """The summary as a text."""
    hardware = about["hardware"]
    lines = [
        f"{hardware.get('gpu', hardware['processor'])}, {hardware['cores']} cores, commit {about['commit']}, "
        f"torch {about['versions']['torch']}, Python {about['versions']['python']}",
        "",
    ]
    for group, jobs in found.items():
        lines.append(f"{group} ({about.get(f'{group}_seconds', 0):.0f} s): {counts(jobs)}")
        for name, each in jobs.items():
            if group != "tests" or each["status"] in ("failed", "crashed", "hung"):
                lines.append(f"    {name:<58} {words(each)}")
        lines.append("")
    for name, each in found.get("table", {}).items():
        if "page" in each.get("result", {}):
            lines += [f"where the time goes: {name}", each["result"]["page"], "    ms  operation or kernel"]
            lines += [f"{took:6.1f}  {kernel[:120]}" for kernel, took in each["result"]["top_ms"].items()]
            lines.append("")
    return "\n".join(lines) + "\n"


def words(about: dict[str, Any]) -> str:
    """A job's outcome in a line."""
    if about["status"] != "passed":
        said = re.sub(r"\s+", " ", about.get("error", ""))
        return f"{about['status']}  {said[:110]}".rstrip()
    result = about.get("result", {})
    if "curve" in result:
        best, last = max(point["return"] for point in result["curve"]), result["curve"][-1]
        return f"{best:.1f} at best, {last['return']:.1f} at step {last['step']:,} ({last['seconds'] or 0:.0f} s)"
    if "fill_seconds" in result:
        draws = {name: part["per_second"] for name, part in result.items() if isinstance(part, dict)}
        said = ", ".join(f"{name} {rate:,.0f} samples/s" for name, rate in draws.items())
        return f"{result['gigabytes']:.1f} GB filled in {result['fill_seconds']:.1f} s; {said}"
    if "per_second" in result:
        more = f", {result['ms_an_iteration']:.2f} ms an iteration" if "ms_an_iteration" in result else ""
        return f"{result['per_second']:,.0f}/s{more}"
    return "passed"


def draw(folder: Path, found: Found) -> None:
    """Write curves.png: the evaluations of the games, over minutes."""
    from matplotlib.figure import Figure

    games = {name: about["result"]["curve"] for name, about in found.get("train", {}).items() if "result" in about}
    games = {name: points for name, points in games.items() if points}
    if not games:
        return
    figure = Figure(figsize=(5 * len(games), 3.4), dpi=130, layout="constrained")
    for panel, (name, points) in zip(figure.subplots(1, len(games), squeeze=False)[0], games.items(), strict=True):
        panel.plot([(p["seconds"] or 0) / 60 for p in points], [p["return"] for p in points], marker=".")
        panel.set(title=name, xlabel="minutes", ylabel="return, whole games")
        panel.grid(alpha=0.3)
    figure.savefig(folder / "curves.png")
