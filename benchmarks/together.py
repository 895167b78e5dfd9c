"""Two processes that train one run, of which one suffers a fault: both must end soon, in one line each, and the same command go on."""

import itertools
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import campaign
import crash_target
import tables

SOON = 60  # seconds from a fault, or from the end of the one that suffers it, to the end of both
PATIENCE = 240  # seconds that a start may take in all
SIGNALS = {"kill -9": signal.SIGKILL, "stop": signal.SIGSTOP}
OTHER_CONFIG = ("--config.train.seed=1", "--config.data.load_size=20", "--config.weights.l1=3")
NEED_A_CHECKPOINT = ("read error", "invisible step")
KINDS = (*SIGNALS, *crash_target.STORAGE, "other config")


class Fault(NamedTuple):
    """Of a kill or a stop, `count` is the step after which it comes, of a full disk the file."""

    kind: str
    process: int
    count: int
    delay: float


class Ended(NamedTuple):
    """`seconds` from the fault to the end of both; `hit`: whether it came before the run's end; `wrong` is what both should not do."""

    hit: bool
    finished: bool
    seconds: float
    wrong: str


Result = tuple[Fault, Ended, bool]


def start(place: campaign.Place, fault: Fault | None) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    both = []
    for number in range(2):
        own = fault if fault and fault.process == number else None
        inner = campaign.Fault(own.kind, own.count, own.delay) if own else None
        other = [OTHER_CONFIG[own.count % len(OTHER_CONFIG)]] if own and own.kind == "other config" else []
        together = f"--coordinator_address={address}", "--num_processes=2", f"--process_id={number}"
        both.append(place.start(inner, *together, *other, stderr=subprocess.PIPE))
    return both


def suffer(place: campaign.Place, fault: Fault | None) -> Ended:
    """One start of the command in both, until they end by themselves or by the fault."""
    both = start(place, fault)
    head, begun = "", 0.0
    from_outside = fault is not None and fault.kind in SIGNALS
    if fault and from_outside:
        head = campaign._until_step(both[0], fault.count)
        time.sleep(fault.delay)
        begun = time.perf_counter()
        both[fault.process].send_signal(SIGNALS[fault.kind])
    others = [process for number, process in enumerate(both) if not (fault and from_outside and fault.process == number)]
    with ThreadPoolExecutor() as pool:
        told = dict(zip(others, pool.map(_end, others), strict=True))
    for process in both:
        process.kill()
    if from_outside and fault:
        both[fault.process].communicate()
    ends = [when for *_, when in told.values()]
    seconds = max(ends) - (begun or min(ends))
    out, err = (head + told[both[0]][0], told[both[0]][1]) if both[0] in told else (head, "")
    if re.search("^(done: open|nothing to do)", out, re.MULTILINE) and all(process.returncode == 0 for process in others):
        return Ended(fault is not None and "is damaged" in err, True, seconds, "")
    wrong = [f"status {process.returncode}: {err[-1500:]}" for process, (_, err, _) in told.items() if not _in_one_line(process, err)]
    return Ended(True, False, seconds, "; ".join(wrong if fault else [*wrong, "did not finish"]))


def _end(process: subprocess.Popen[str]) -> tuple[str, str, float]:
    """What it says, and when it ends."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += "did not end by itself"
    return out, err, time.perf_counter()


def _in_one_line(process: subprocess.Popen[str], err: str) -> bool:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    return len(lines) == 1 and process.returncode in (1, 2) and not re.search("Traceback|Fatal|did not end", err)


def draw_faults(total: int, random_of: random.Random) -> list[Fault]:
    kinds = [kind for kind, _ in zip(itertools.cycle(KINDS), range(total), strict=False)]
    random_of.shuffle(kinds)
    process = {"full disk": 0, "invisible step": 1}  # who writes; who is told what to read
    return [Fault(kind, process.get(kind, random_of.randint(0, 1)), random_of.randint(4, 16), random_of.uniform(0, 0.1)) for kind in kinds]


def run(system: str, total: int, folder: Path, *, steps: int, seed: int) -> Iterator[tuple[list[Result], list[str]]]:
    """Run after run: the faults that came, each with how both ended and whether it was survived; and what went wrong."""
    places = (campaign.Place(system, steps, folder / str(number), folder / "compiled") for number in itertools.count())
    undisturbed = next(places)
    assert suffer(undisturbed, None).finished, "the undisturbed run"
    expected = campaign.record(undisturbed)
    faults = draw_faults(total, random.Random(seed))
    while faults:
        place, hit, wrong = next(places), [], []
        while faults:
            fault = faults.pop()
            if fault.kind in NEED_A_CHECKPOINT and not hit:
                suffer(place, Fault("kill -9", 1, 8, 0.0))  # which is not counted
            ended = suffer(place, fault)
            if ended.hit:
                hit.append((fault, ended))
            else:
                faults.insert(0, fault._replace(count=max(1, fault.count // 2)))
            if ended.wrong or ended.seconds > SOON:
                wrong.append(f"{fault}: {ended.seconds:.0f} s, {ended.wrong}")
            if ended.finished:
                break
        last = suffer(place, None)
        found = campaign.record(place) if last.finished else {}
        wrong += [last.wrong] if not last.finished else [f"{name} differ" for name in expected if found[name] != expected[name]]
        yield [(fault, ended, not wrong) for fault, ended in hit], wrong


def table(results: Sequence[Result]) -> str:
    by_kind = {kind: [(ended.seconds, good) for fault, ended, good in results if fault.kind == kind] for kind in KINDS}
    by_kind["all"] = [(ended.seconds, good) for _, ended, good in results]
    rows = [
        [kind, str(len(found)), str(sum(good for _, good in found)), f"{max((s for s, _ in found), default=0.0):.0f} s"]
        for kind, found in by_kind.items()
    ]
    return tables.lines(["fault of one of two processes", "tried", "survived", "both ended within"], rows)
