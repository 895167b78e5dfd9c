"""Two processes that train one run, with a fault in one: both must end soon, with one line each, and the same command must resume."""

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

SOON = 60  # seconds allowed from a fault, or from the end of the process with the fault, to the end of both
PATIENCE = 240  # seconds allowed for one start in all
SIGNALS = {"kill -9": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}
OTHER_CONFIG = ("--config.train.seed=1", "--config.data.load_size=20", "--config.weights.l1=3")
NEED_A_CHECKPOINT = ("read error", "invisible step")
KINDS = (*SIGNALS, *crash_target.STORAGE, "other config")


class Fault(NamedTuple):
    """A fault of one process. `count`: the step after which a signal is sent, or the number of the file at which the disk is full."""

    kind: str
    process: int
    count: int
    delay: float


class Ended(NamedTuple):
    """`seconds`: from the fault to the end of both. `hit`: the fault came before the run's end. `wrong`: what went wrong, if anything."""

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


def run_once(place: campaign.Place, fault: Fault | None) -> Ended:
    """Runs the command in both processes once, until they finish or the fault ends them."""
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
        outputs = dict(zip(others, pool.map(_end, others), strict=True))
    for process in both:
        process.kill()
    if from_outside and fault:
        both[fault.process].communicate()
    ends = [end for *_, end in outputs.values()]
    seconds = max(ends) - (begun or min(ends))
    out, err = (head + outputs[both[0]][0], outputs[both[0]][1]) if both[0] in outputs else (head, "")
    if re.search("^(done: open|nothing to do)", out, re.MULTILINE) and all(process.returncode == 0 for process in others):
        return Ended(fault is not None and "is damaged" in err, True, seconds, "")
    wrong = [f"status {process.returncode}: {err[-1500:]}" for process, (_, err, _) in outputs.items() if not _in_one_line(process, err)]
    return Ended(True, False, seconds, "; ".join(wrong if fault else [*wrong, "did not finish"]))


def _end(process: subprocess.Popen[str]) -> tuple[str, str, float]:
    """Waits for a process; returns its stdout, its stderr and when it ended."""
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


def draw_faults(total: int, rng: random.Random) -> list[Fault]:
    kinds = [kind for kind, _ in zip(itertools.cycle(KINDS), range(total), strict=False)]
    rng.shuffle(kinds)
    process = {"full disk": 0, "invisible step": 1}  # process 0 writes the files and chooses the step that process 1 reads
    return [Fault(kind, process.get(kind, rng.randint(0, 1)), rng.randint(4, 16), rng.uniform(0, 0.1)) for kind in kinds]


def run(system: str, total: int, folder: Path, *, steps: int, seed: int) -> Iterator[tuple[list[Result], list[str]]]:
    """Yields for each run the faults that hit, with how both processes ended and whether the run survived, and what went wrong."""
    places = (campaign.Place(system, steps, folder / str(number), folder / "compiled") for number in itertools.count())
    undisturbed = next(places)
    assert run_once(undisturbed, None).finished, "the undisturbed run"
    expected = campaign.record(undisturbed)
    faults = draw_faults(total, random.Random(seed))
    while faults:
        place, hit, wrong = next(places), [], []
        while faults:
            fault = faults.pop()
            if fault.kind in NEED_A_CHECKPOINT and not hit:
                run_once(place, Fault("kill -9", 1, 8, 0.0))  # not counted: it leaves a checkpoint to resume from
            ended = run_once(place, fault)
            if ended.hit:
                hit.append((fault, ended))
            else:
                faults.insert(0, fault._replace(count=max(1, fault.count // 2)))
            if ended.wrong or ended.seconds > SOON:
                wrong.append(f"{fault}: {ended.seconds:.0f} s, {ended.wrong}")
            if ended.finished:
                break
        last = run_once(place, None)
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
