"""Reads a profiler's trace: the kind of work at each time, totals, the most expensive operations, the bottleneck.

Methods of worlds and memories are labeled while recording, optimizers and the backward pass label themselves. The
time between two labels is attributed to the later one: the time before world.send is acting, the time before the
backward pass is the forward pass. A captured update is one kind of work, for its parts are not visible to Python; an
emulator's own threads are not visible either.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

ACT, SEND, WAIT, OTHER = "act", "emulator: send", "emulator: wait", "other"
ADD, DRAW, PRIORITIES = "memory: add", "memory: draw", "memory: priorities"
FORWARD, BACKWARD, OPTIMIZER = "learn: forward", "learn: backward", "learn: optimizer"
GRAPH = "learn: captured update"
BESIDE, DEVICE = "emulator: beside", "wait for the device"
COLORS = {  # after Okabe and Ito 2008
    ACT: "#56B4E9",
    SEND: "#F0E442",
    WAIT: "#E69F00",
    BESIDE: "#F5D9A0",
    ADD: "#009E73",
    DRAW: "#66C5AB",
    PRIORITIES: "#B3E2D5",
    FORWARD: "#0072B2",
    BACKWARD: "#CC79A7",
    OPTIMIZER: "#D55E00",
    GRAPH: "#7B5EA7",
    DEVICE: "#000000",
    OTHER: "#BBBBBB",
}
LABELS = {  # a method of a tracked part -> its kind of work, and that of the time before it
    "send": (SEND, ACT),
    "recv": (WAIT, OTHER),
    "add": (ADD, OTHER),
    "sample": (DRAW, OTHER),
    "sequences": (DRAW, OTHER),
    "update": (PRIORITIES, OTHER),
    "learn": (GRAPH, OTHER),
}
TOP = 9  # operations named
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")  # event categories of an accelerator
CALLS = ("cuda_runtime", "cuda_driver")  # and of the calls that launch them


class Span(NamedTuple):
    """An interval of time, in microseconds, and its kind of work."""

    begin: float
    end: float
    kind: str


# ---- what a trace says ------------------------------------------------------------------------------------


def iterations(events: Iterable[dict]) -> list[dict]:
    """The events that span an iteration each, in their order."""
    steps = (e for e in events if e["name"].startswith("ProfilerStep#") and e["cat"] == "user_annotation")
    return sorted(steps, key=lambda event: event["ts"])


def spans(events: Sequence[dict]) -> list[Span]:
    """The kinds of work of all iterations, without gaps.

    events: of a trace in Chrome's format, those with a duration ("ph" is "X"); times in microseconds.
    """
    marks = []  # begin, end, kind, what leads to it
    for event in events:
        found = _meaning(event)
        if found:
            marks.append((event["ts"], event["ts"] + event["dur"], *found))
    marks.sort()
    found: list[Span] = []

    def spend(begin: float, end: float, kind: str) -> None:
        if found and found[-1].kind == kind and found[-1].end == begin:
            found[-1] = found[-1]._replace(end=end)
        elif end > begin:
            found.append(Span(begin, end, kind))

    position = 0
    for iteration in iterations(events):
        now, end, before = iteration["ts"], iteration["ts"] + iteration["dur"], None
        while position < len(marks) and marks[position][0] < end:
            begin, until, kind, leading = marks[position]
            position += 1
            if begin < now:  # within another mark, or before the first iteration
                continue
            spend(now, begin, BACKWARD if kind == before == BACKWARD else leading)  # between two of its operations
            spend(begin, until, kind)
            now, before = until, kind
        spend(now, end, OTHER)
    return _without_waiting(found, events)


def _without_waiting(found: Sequence[Span], events: Iterable[dict]) -> list[Span]:
    """The spans, with the time of waiting for an accelerator as spans of its own."""
    waits = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["cat"] in CALLS and "Synchronize" in e["name"])
    cut, first = [], 0
    for span in found:
        now = span.begin
        while first < len(waits) and waits[first][0] < span.end:
            begin, end = (min(max(edge, now), span.end) for edge in waits[first])
            cut += [Span(now, begin, span.kind), Span(begin, end, DEVICE)]
            now = end
            if waits[first][1] > span.end:  # it goes on in the next one
                break
            first += 1
        cut.append(Span(now, span.end, span.kind))
    return [span for span in cut if span.end > span.begin]


def _meaning(event: dict) -> tuple[str, str] | None:
    name = event["name"]
    if event["cat"] == "cpu_op":
        return (BACKWARD, FORWARD) if name.startswith("autograd::engine::evaluate_function") else None
    if event["cat"] != "user_annotation":
        return None
    if name.startswith("Optimizer."):  # torch labels them itself: Optimizer.step#Adam.step
        return OPTIMIZER, FORWARD if name.startswith("Optimizer.zero_grad") else OPTIMIZER
    return LABELS.get(name.rpartition(".")[2])


def totals(found: Iterable[Span]) -> dict[str, float]:
    """Microseconds of each kind, the largest first."""
    sums: Counter[str] = Counter()
    for span in found:
        sums[span.kind] += span.end - span.begin
    return dict(sums.most_common())


def playing(events: Sequence[dict]) -> list[Span]:
    """When the emulator may have been running: beside the program, or while the program waited for it."""
    calls = sorted((e["ts"], e["dur"], e["name"].rpartition(".")[2]) for e in events if _meaning(e) is not None)
    calls = [call for call in calls if call[2] in ("send", "recv")]
    found = []
    for (sent, took, name), (begin, waited, next_value) in zip(calls, calls[1:], strict=False):
        if (name, next_value) == ("send", "recv"):
            found += [Span(sent + took, begin, BESIDE), Span(begin, begin + waited, WAIT)]
    return found


def purpose(events: Iterable[dict], found: Sequence[Span]) -> Callable[[dict], str]:
    """A function from an event to the kind of work during which the program called it.

    A kernel of the accelerator runs later than its call, which has the same "correlation".
    """
    begins = [span.begin for span in found]
    called = {
        e["args"]["correlation"]: e["ts"] for e in events if e["cat"] in CALLS and "correlation" in e.get("args", {})
    }

    def kind(event: dict) -> str:
        at = event["ts"]
        if event["cat"] in ON_DEVICE:
            at = called.get(event["args"].get("correlation"), at)
        return found[max(bisect_right(begins, at) - 1, 0)].kind

    return kind


def elsewhere(events: Sequence[dict], found: Sequence[Span]) -> dict[str, list[Span]]:
    """The work of other threads and of the accelerator: row -> spans."""
    kind, main = purpose(events, found), iterations(events)[0]["tid"]
    rows: dict[str, list[Span]] = {}
    for event in sorted(events, key=lambda event: event["ts"]):
        if event["cat"] in ON_DEVICE:
            row = rows.setdefault(f"CUDA stream {event['args']['stream']}", [])
        elif event["cat"] == "cpu_op" and event["tid"] != main:
            row = rows.setdefault(f"thread {event['tid']}", [])
        else:
            continue
        if not row or event["ts"] >= row[-1].end:  # not inside of the operation before
            row.append(Span(event["ts"], event["ts"] + event["dur"], kind(event)))
    return rows


def operations(events: Sequence[dict], found: Sequence[Span]) -> dict[str, dict[str, float]]:
    """Self time of each operation in microseconds, without those that it called: name -> kind of work -> time.

    Of the accelerator's kernels where there are any, else of the CPU's operations. The most expensive first.
    """
    kind = purpose(events, found)
    cat = "kernel" if any(event["cat"] == "kernel" for event in events) else "cpu_op"
    sums: dict[str, Counter[str]] = {}
    inside: dict[Any, list[dict]] = {}  # thread -> the operations under way
    for event in sorted((e for e in events if e["cat"] == cat), key=lambda event: (event["ts"], -event["dur"])):
        stack = inside.setdefault(event["tid"], [])
        while stack and stack[-1]["ts"] + stack[-1]["dur"] <= event["ts"]:
            stack.pop()
        if stack:
            sums[stack[-1]["name"]][kind(stack[-1])] -= event["dur"]
        sums.setdefault(event["name"], Counter())[kind(event)] += event["dur"]
        stack.append(event)
    return {name: dict(each) for name, each in sorted(sums.items(), key=lambda item: -item[1].total())}


# ---- in words ---------------------------------------------------------------------------------------------


def bottleneck(shares: dict[str, float]) -> str:
    """The kind of work that takes most of the time, as a clause. shares: kind -> share of the whole, 0 to 1."""
    groups: Counter[str] = Counter()
    for kind, share in shares.items():
        groups[kind.partition(":")[0]] += share
    (group, share), *_ = groups.most_common()
    part, most = max(
        (item for item in shares.items() if item[0].partition(":")[0] == group), key=lambda item: item[1]
    )
    alone = f", {part.partition(': ')[2]} alone {most:.0%}" if part != group else ""
    return f"{group} takes {share:.0%} of the time{alone}"


def describe(title: str, events: Sequence[dict], unrecorded: float) -> str:
    """The page profile.txt. unrecorded: milliseconds an iteration took before the recording began."""
    found, count = spans(events), len(iterations(events))
    sums = totals(found)
    whole = sum(sums.values())
    shares = {kind: took / whole for kind, took in sums.items()}
    each = whole / count / 1000
    lines = [
        f"{title}: {count} iterations of {each:.2f} ms ({unrecorded:.2f} ms before the recording began)",
        bottleneck(shares),
        "",
        *(f"{share:6.1%}  {share * each:9.3f} ms  {kind}" for kind, share in shares.items()),
    ]
    for row, work in elsewhere(events, found).items():
        lines.append(f"{sum(span.end - span.begin for span in work) / whole:6.1%}  of it {row} was busy")
    lines += ["", "operations by themselves:"]
    for name, parts in list(operations(events, found).items())[:TOP]:
        took = sum(parts.values())
        lines.append(f"{took / whole:6.1%}  {took / count / 1000:9.3f} ms  {name}")
    return "\n".join(lines) + "\n"
