"""Runs that do not wait for each other: one by one here, or several at a time, here or elsewhere.

loky, Dask or Ray hands them out, as asked for, behind the standard library's futures: each
finished run is told as it ends, and one whose process is killed takes no other along.
What is called and what it returns travel as bytes, so that every engine does the same.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch
from threadpoolctl import threadpool_limits

from s4edge.errors import S4EdgeError, means_no_memory
from s4edge.progress import Progress, part_of, silent
from s4edge.systems.parallel import available_cores

Run = TypeVar("Run")
Result = TypeVar("Result")
# A run, and how far it is: what it gives has to be picklable.
Work = Callable[[Run, Progress], Result]

# How often a run is begun whose process is killed.
_ATTEMPTS = 2
_WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Engine:
    """Who does independent runs.

    Attributes:
        where: ``local``, ``dask``, ``ray``, or one of the last two with the address of a cluster
            that is there: ``dask=tcp://host:8786``.
        workers: at a time; None for one here, for one per core of an own cluster. One that is there
            has its own.
        threads: of each run; None for the cores of this machine shared among its workers, for one
            on a cluster that is there. In this process: as it has them.
    """

    where: str = "local"
    workers: int | None = None
    threads: int | None = None

    @property
    def kind(self) -> str:
        """``local``, ``dask`` or ``ray``."""
        return self.where.partition("=")[0]

    @property
    def address(self) -> str:
        """Of a cluster, or empty."""
        return self.where.partition("=")[2]

    @property
    def threads_each(self) -> int:
        """Of a run that is handed out."""
        if self.threads is not None:
            return self.threads
        return 1 if self.address else max(1, available_cores() // self.workers_here)

    @property
    def workers_here(self) -> int:
        """Of this machine, where there is no cluster yet."""
        return self.workers or (1 if self.kind == "local" else available_cores())

    @contextlib.contextmanager
    def open(self, tell: Callable[[str], None]) -> Iterator[HandOut]:
        """Start what the runs need; it ends with the context.

        Args:
            tell: called with what should be known, one sentence: a process was killed.

        Raises:
            S4EdgeError: there is no such engine, it is not installed, or nobody answers there.
        """
        if self.kind not in _ENGINES or (self.kind == "local" and "=" in self.where):
            raise S4EdgeError(
                f"--engine {self.where} is none; give local, dask, ray, dask=ADDRESS or ray=ADDRESS"
            )
        if self.kind == "local" and self.workers_here == 1:
            yield HandOut(None, tell, self.threads)
            return
        with _ENGINES[self.kind](self) as submit:
            yield HandOut(submit, tell, self.threads_each)


@dataclass(frozen=True)
class Ended(Generic[Result]):
    """A run that is over.

    Attributes:
        name: of the run.
        result: what it gave, None where it failed.
        problem: what went wrong, in one line, or None.
        seconds: that it took.
    """

    name: str
    result: Result | None
    problem: str | None
    seconds: float


# Calls what is in the first bytes with a run's name and the run, in the second.
_Submit = Callable[[bytes, bytes], "Future[bytes]"]


@dataclass(frozen=True)
class HandOut:
    """What `Engine.open` gives.

    Attributes:
        submit: None for this process.
        tell: see there.
        threads: of a run; None for as many as there are.
    """

    submit: _Submit | None
    tell: Callable[[str], None]
    threads: int | None

    def __call__(
        self, work: Work[Run, Result], runs: Mapping[str, Run], progress: Progress = silent
    ) -> Iterator[Ended[Result]]:
        """Do runs, and give each as it ends.

        A run that raises has failed, and the others go on. One whose process is killed is begun
        again once.

        Args:
            work: called with a run and where to tell how far it is.
            runs: by a name for messages.
            progress: called with the fraction of all that is done.

        Raises:
            S4EdgeError: ``work`` or a run cannot be sent to another process.
        """
        if self.submit is None:
            for index, (name, run) in enumerate(runs.items()):
                yield _done(work, name, run, self.threads, part_of(progress, index, len(runs)))
                progress((index + 1) / len(runs))
            return
        call = _as_bytes(functools.partial(_answer, work, self.threads))
        sent = {name: _as_bytes((name, run)) for name, run in runs.items()}
        begun = {self.submit(call, run): (name, 1) for name, run in sent.items()}
        ended = 0
        while begun:
            over, _ = wait(begun, return_when=FIRST_COMPLETED)
            for future in over:
                name, attempt = begun.pop(future)
                lost = future.exception()
                if lost is not None and attempt < _ATTEMPTS:
                    self.tell(f"{name}: its process ended ({_how(lost)}); it is begun again.")
                    begun[self.submit(call, sent[name])] = name, attempt + 1
                    continue
                ended += 1
                progress(ended / len(runs))
                if lost is None:
                    yield pickle.loads(future.result())
                else:
                    problem = f"its process ended {attempt} times ({_how(lost)})"
                    yield Ended(name, None, problem, 0.0)


def failures(ended: list[Ended[Result]]) -> str:
    """Those that failed, in one line; empty where none did."""
    failed = [each for each in ended if each.problem is not None]
    told = "; ".join(f"{each.name}: {each.problem}" for each in failed)
    return f"{len(failed)} of {len(ended)} runs failed: {told}" if failed else ""


# What a worker does


def _answer(work: Work[Run, Result], threads: int | None, name: str, run: Run) -> bytes:
    # Of bytes no engine has an opinion; some would put a model's tensors into shared memory.
    return pickle.dumps(_done(work, name, run, threads, silent))


def _done(
    work: Work[Run, Result], name: str, run: Run, threads: int | None, progress: Progress
) -> Ended[Result]:
    started = time.perf_counter()
    result, problem = None, None
    try:
        with _limited(threads):
            result = work(run, progress)
    except Exception as error:
        problem = _one_line(error)
    return Ended(name, result, problem, time.perf_counter() - started)


@contextlib.contextmanager
def _limited(threads: int | None) -> Iterator[None]:
    """To so many threads, whatever library starts them."""
    if threads is None:
        yield
        return
    variable, torchs = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(torchs)
        if variable is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = variable


def _one_line(error: BaseException) -> str:
    """What went wrong; of what nobody meant to raise, where."""
    if isinstance(error, S4EdgeError):
        return str(error)
    if means_no_memory(error):
        return "out of memory"
    text = str(S4EdgeError(f"{type(error).__name__}: {error}"))[:300].rstrip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else text


def _how(error: BaseException) -> str:
    """A process ended, in few words: the engines say it in paragraphs."""
    found = re.findall(r"SIG[A-Z]+", str(error))
    return found[0] if found else type(error).__name__


def _as_bytes(what: Any) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(what)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise S4EdgeError(f"this cannot be sent to workers: {_one_line(error)}") from error


def _called(call: bytes, run: bytes) -> bytes:
    answer: bytes = pickle.loads(call)(*pickle.loads(run))
    return answer


# Engines


class _Slots:
    """loky's processes, an executor for each: one of several would end all if one is killed."""

    def __init__(self, workers: int, threads: int) -> None:
        self.threads, self.closed = threads, False
        self.free: SimpleQueue[Any] = SimpleQueue()
        self.used: list[Any] = []
        for _ in range(workers):
            self.free.put(None)

    def call(self, call: bytes, run: bytes) -> bytes:
        """Of one run, in a process that is free. Raises BrokenProcessPool if it is killed."""
        executor = self.free.get() or self._start()
        try:
            answer: bytes = executor.submit(_called, call, run).result()
        except BaseException:
            self.free.put(None)
            raise
        self.free.put(executor)
        return answer

    def _start(self) -> Any:
        from loky.process_executor import ProcessPoolExecutor, ShutdownExecutorError

        if self.closed:
            raise ShutdownExecutorError("the runs were stopped")
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        executor = ProcessPoolExecutor(
            1, env=dict.fromkeys(variables, str(self.threads)), initializer=_begin_worker,
            initargs=(os.getpid(),),
        )  # fmt: skip
        self.used.append(executor)
        return executor

    def close(self) -> None:
        """End all processes, whatever they do."""
        self.closed = True
        for executor in self.used:
            executor.shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def _local(engine: Engine) -> Iterator[_Submit]:
    """Processes of this machine, each looked after by a thread."""
    slots = _Slots(engine.workers_here, engine.threads_each)
    threads = ThreadPoolExecutor(engine.workers_here, "s4edge-run")
    try:
        yield lambda call, run: threads.submit(slots.call, call, run)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        slots.close()


def _begin_worker(parent: int) -> None:
    # Ctrl-C reaches all processes of a terminal; who started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)  # nobody is there to take what this one makes

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _dask(engine: Engine) -> Iterator[_Submit]:
    """A cluster that is there, or one of this machine."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise _not_installed("dask", "distributed") from error
    with contextlib.ExitStack() as stack:
        where: Any = engine.address
        if not where:
            where = stack.enter_context(
                LocalCluster(
                    n_workers=engine.workers_here, threads_per_worker=1, dashboard_address=None
                )
            )
        try:
            client = stack.enter_context(Client(where, timeout="10s"))
        except (OSError, ValueError) as error:
            raise _nobody_answers(engine) from error
        executor = client.get_executor(pure=False)
        stack.callback(executor.shutdown, wait=False)
        yield lambda call, run: executor.submit(_called, call, run)


@contextlib.contextmanager
def _ray(engine: Engine) -> Iterator[_Submit]:
    """As `_dask`."""
    try:
        import ray
    except ImportError as error:
        raise _not_installed("ray", "ray") from error
    how: dict[str, Any] = {"num_cpus": engine.workers_here, "include_dashboard": False}
    if engine.address:
        how = {"address": engine.address}
    try:
        host, _, port = engine.address.rpartition("/")[2].rpartition(":")
        if port.isdigit():  # Ray itself would ask for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(**how, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise _nobody_answers(engine) from error
    called = ray.remote(max_retries=0)(_called)
    try:
        yield lambda call, run: called.remote(call, run).future()
    finally:
        ray.shutdown()


def _nobody_answers(engine: Engine) -> S4EdgeError:
    return S4EdgeError(f"--engine {engine.where}: no {engine.kind} cluster answers there")


def _not_installed(engine: str, package: str) -> S4EdgeError:
    return S4EdgeError(
        f"--engine {engine} needs {package}, which is not installed; type: pip install {package}"
    )


_ENGINES: dict[str, Callable[[Engine], AbstractContextManager[_Submit]]] = {
    "local": _local,
    "dask": _dask,
    "ray": _ray,
}
