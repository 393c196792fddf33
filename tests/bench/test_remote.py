"""Benchmarks over ssh: against a real sshd on the loopback address, and with a made-up ssh."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback_sshd import HOST, Sshd, in_folder, running_sshd
from sample_answer import sample_answer

from s4edge.bench.remote import RemoteBench
from s4edge.errors import S4EdgeError

# A far s4edge that answers at once: with the sample's figures, and with what it was given.
FAR = """\
import json, os, pathlib, sys
options, graphs = sys.argv[1:], []
if "--" in options:
    options, graphs = options[: options.index("--")], options[options.index("--") + 1 :]
answer = json.loads(pathlib.Path({answer!r}).read_text())
answer["results"] = [dict(answer["results"][0], model=graph) for graph in graphs]
answer["timeline"] = []
folder = pathlib.Path(graphs[0]).parents[1]
files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
answer["far"] = {{
    "options": options, "files": files, "home": os.getcwd(), "mode": folder.stat().st_mode & 0o777,
    "bytes": [len(pathlib.Path(graph).read_bytes()) for graph in graphs],
    "pid": os.getpid(), "graphs": [os.fsencode(graph).hex() for graph in graphs],
}}
"""
SAY = "print(json.dumps(answer))\n"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found
        assert found.left_behind == []


@pytest.fixture
def far(tmp_path: Path) -> Callable[[str], str]:
    """Write a far s4edge of some Python; give the command that runs it."""

    def write(program: str = SAY) -> str:
        (tmp_path / "answer.json").write_text(json.dumps(sample_answer()))
        path = tmp_path / "far.py"
        path.write_text(FAR.format(answer=str(tmp_path / "answer.json")) + program)
        return shlex.join([sys.executable, "-I", str(path)])

    return write


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(os.urandom(300_000))
    return path


def ask(
    graphs: list[Path],
    command: str,
    ssh_options: list[str],
    notes: list[str] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    **arguments: Any,
) -> dict[str, Any]:
    note = (lambda line: None) if notes is None else notes.append
    with RemoteBench(HOST, graphs, command=command, ssh_options=ssh_options, note=note,
                     **arguments) as bench:  # fmt: skip
        return bench.answer(progress)


def refused(*arguments: Any, **more: Any) -> str:
    """The one line of a call that must fail."""
    with pytest.raises(S4EdgeError) as caught:
        ask(*arguments, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


# Over a real sshd


def test_answer_names_the_graphs_as_they_are_here(
    sshd: Sshd, far: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ['it\'s "so" $HOME `id`.onnx', "-x;.onnx", "größe.onnx", os.fsdecode(b"\xff.onnx")]
    paths = [Path(name) for name in names]
    # The same name twice: two folders here, two there.
    paths += [Path("a/model.onnx"), Path("b/model.onnx")]
    for index, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * (100_000 + index))
    (tmp_path / "secret.txt").write_text("is not copied")
    options = ["--rate", "4000", "--odd", "a b'c\"$HOME`id`\\n!*"]
    found = ask(paths, far(), sshd.options(), options=options)
    assert [row["model"] for row in found["results"]] == [str(path) for path in paths]
    told = found["far"]
    assert told["options"] == ["bench", *options, "--json"]
    assert told["bytes"] == [100_000 + index for index in range(len(paths))]
    inside = [f"{index}/{path.name}" for index, path in enumerate(paths)]
    assert told["files"] == sorted([*inside, "pid", "run"])
    for hexed, name in zip(told["graphs"], inside, strict=True):
        assert bytes.fromhex(hexed).endswith(b"/" + os.fsencode(name))
    # Nobody else on the board can read them.
    assert told["mode"] == 0o700
    assert Path(told["home"]) == Path.home()
    assert sshd.left_behind == []


def test_what_the_far_side_says_is_passed_on(
    sshd: Sshd, far: Callable[..., str], graph: Path
) -> None:
    program = (
        "assert os.environ['S4EDGE_PROGRESS'] == 'lines'\n"
        "for line in ('s4edge-progress 0.25', 'hot: ' + graphs[0], 's4edge-progress 1'):\n"
        "    print(line, file=sys.stderr, flush=True)\n"
    )
    notes: list[str] = []
    steps: list[float] = []
    ask([graph], far(program + SAY), sshd.options(), notes, steps.append)
    assert notes == [f"{HOST}: hot: {graph}"]
    assert steps == [0.25, 1.0]


def test_noise_of_login_scripts_is_no_answer(
    sshd: Sshd, far: Callable[..., str], graph: Path
) -> None:
    noise = """echo "Welcome"; printf '{"results": []} '; """
    sshd.let_in("noisy", in_folder(sshd.folder / "tmp", noise))
    notes: list[str] = []
    found = ask([graph], far(), sshd.options("noisy"), notes)
    assert found["results"][0]["model"] == str(graph)
    assert notes == [f"{HOST} (login): Welcome", f'{HOST} (login): {{"results": []}} ']


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        ("echo 'This account is closed.'", "it said: This account is closed."),
        ("exit 3", "exit status 3"),
    ],
)
def test_far_shell_that_runs_nothing(
    sshd: Sshd, graph: Path, wrapper: str, said: str, tmp_path: Path
) -> None:
    key = f"closed-{tmp_path.name}"
    sshd.let_in(key, wrapper)
    message = refused([graph], "s4edge", sshd.options(key))
    assert "did not run what it was told" in message
    assert said in message


def test_no_space_left_there(sshd: Sshd, graph: Path, tmp_path: Path) -> None:
    allowed = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)]
    if (
        shutil.which("unshare") is None
        or subprocess.run(allowed, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs a small file system of its own, which may not be mounted here")
    small = tmp_path / "small"
    small.mkdir()
    inner = (
        f"mount -t tmpfs -o size=64k none {shlex.quote(str(small))}; "
        f'export TMPDIR={shlex.quote(str(small))}; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    )
    sshd.let_in("small", f"exec unshare -m sh -c {shlex.quote(inner)}")
    message = refused([graph], "s4edge", sshd.options("small"))
    assert message.startswith(f"cannot copy the graphs to {HOST}: ")
    assert re.search("No space left on device|Wrote only", message)
    assert message.endswith(f"; make room on {HOST} and try again")


def test_no_folder_there(sshd: Sshd, graph: Path, tmp_path: Path) -> None:
    sshd.let_in("nowhere", in_folder(tmp_path / "not there"))
    message = refused([graph], "s4edge", sshd.options("nowhere"))
    assert message.startswith(f"{HOST} cannot make a temporary folder: ")
    assert "No such file or directory" in message


@pytest.mark.parametrize(
    "command", ["s4edge-that-is-not-there", "~/not/there/s4edge", "{python} -I -S -m s4edge"]
)
def test_no_s4edge_there(sshd: Sshd, graph: Path, command: str) -> None:
    notes: list[str] = []
    command = command.format(python=shlex.quote(sys.executable))
    message = refused([graph], command, sshd.options(), notes)
    assert message.startswith(f"there is no s4edge on {HOST} ({command} is not found there)")
    by_hand = shlex.join(["ssh", *(word for each in sshd.options() for word in ("-o", each)), HOST])
    assert f"{by_hand} 'python3 -m venv .venv && .venv/bin/pip install s4edge'" in message
    assert message.endswith("--remote-command .venv/bin/s4edge")
    assert notes == []


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (
            "print('Usage: s4edge bench\\n\\nError: No such option: --rate', file=sys.stderr)\n"
            "sys.exit(2)",
            "older than this one (No such option: --rate); bring it up to date with: ssh -o ",
        ),
        ("del answer['format']\n" + SAY, "older than this one; bring it up to date"),
        ("answer['format'] = 999\n" + SAY, "has format 999, newer than this s4edge"),
        (
            "print('Error: measuring ' + graphs[0] + ' failed', file=sys.stderr)\nsys.exit(1)",
            "{host}: measuring {graph} failed",
        ),
        ("print('some words')", "answered with no JSON object: some words"),
        ("print('[' * 100_000)", "answered with no JSON object: [["),
        ("print(json.dumps(answer)[:-1] + ', \"device\": {}}')", "answered with no JSON object"),
        ("os.kill(os.getpid(), 9)", "killed there by signal 9"),
        ("sys.exit(5)", "exit status 5 and said nothing"),
        (
            # The session's own sshd: this program's parent is the far shell.
            "stat = open('/proc/%d/stat' % os.getppid()).read()\n"
            "os.kill(int(stat.rpartition(')')[2].split()[1]), 9)\n"
            "import time; time.sleep(1)",
            "the connection to {host} broke while it measured",
        ),
    ],
)
def test_failures_there(
    sshd: Sshd, far: Callable[..., str], graph: Path, program: str, said: str
) -> None:
    notes: list[str] = []
    message = refused([graph], far(program), sshd.options(), notes)
    assert said.format(host=HOST, graph=graph) in message
    assert notes == []
    wait_until(lambda: sshd.left_behind == [])


@pytest.mark.parametrize(
    ("key", "known", "port", "said"),
    [
        (
            "unknown",
            "known",
            None,
            f"does not let you in: .*Permission denied .*: ssh-copy-id -o .*{HOST}",
        ),
        (
            "plain",
            "none_known",
            None,
            f"host key of {HOST} is not known yet; .*: ssh -o .* {HOST}$",
        ),
        ("plain", "changed", None, "its host key has changed"),
        ("plain", "known", 1, f"cannot reach {HOST}: .*Connection refused; try: ssh -o .* {HOST}$"),
    ],
)
def test_nobody_gets_in(
    sshd: Sshd, graph: Path, key: str, known: str, port: int | None, said: str
) -> None:
    options = [f"Port={port}"] * (port is not None) + sshd.options(key, known)
    message = refused([graph], "s4edge", options)
    assert re.search(said, message), message


CALL = """\
import json, sys
from pathlib import Path
from s4edge.bench.remote import RemoteBench
host, graph, command, *options = sys.argv[1:]
with RemoteBench(host, [Path(graph)], command=command, ssh_options=options) as bench:
    print(json.dumps(bench.answer(lambda fraction: print(fraction, flush=True))))
"""
WAIT = """\
import time
print("s4edge-progress 0.5", file=sys.stderr, flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    answer["interrupted"] = True
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_interrupted(sshd: Sshd, far: Callable[..., str], graph: Path, name: str) -> None:
    """Ctrl-C brings back what there is; whatever ends the call, nothing stays there."""
    with subprocess.Popen(
        [sys.executable, "-c", CALL, HOST, str(graph), far(WAIT + SAY), *sshd.options()],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0.5\n"
        assert len(sshd.left_behind) == 1
        if name == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: ssh gets it, too
        else:
            process.send_signal(signal.Signals[name])
        said = process.stdout.read()
        status = process.wait(30)
    if name == "SIGINT":
        assert status == 0
        found = json.loads(said)
        assert found["interrupted"]
        assert found["results"][0]["model"] == str(graph)
        # It waits until all is clean.
        assert sshd.left_behind == []
    wait_until(lambda: sshd.left_behind == [])


# With an ssh made up


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put an ssh of some Python on the PATH; give the file where it leaves its arguments."""

    def put(program: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        seen = tmp_path / "seen.json"
        (folder / "ssh").write_text(
            f"#!{sys.executable} -I\nimport json, subprocess, sys\n"
            f"open({str(seen)!r}, 'w').write(json.dumps(sys.argv[1:]))\n{program}\n"
        )
        (folder / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return seen

    return put


def test_ssh_never_asks_in_a_pipe(
    made_up: Callable[[str], Path], far: Callable[..., str], graph: Path
) -> None:
    seen = made_up("sys.exit(subprocess.run(['sh', '-c', sys.argv[-1]]).returncode)")
    for interactive in (False, True):
        ask([graph], far(), ["Port=2222", "BatchMode=no"], interactive=interactive)
        arguments = json.loads(seen.read_text())
        assert arguments[-3:-1] == ["--", HOST]
        options = [b for a, b in itertools.pairwise(arguments) if a == "-o"]
        # The first of two counts for ssh.
        assert options[:2] == ["Port=2222", "BatchMode=no"]
        assert ("BatchMode=yes" in options) is not interactive
        assert "ControlMaster=no" in options
        # What the far login shell reads holds nothing of the user's.
        assert str(graph) not in arguments[-1]
        assert "far.py" not in arguments[-1]


@pytest.mark.parametrize(
    ("command", "pip"),
    [
        ("s4edge", "pip install --upgrade s4edge"),
        (".venv/bin/s4edge", ".venv/bin/pip install --upgrade s4edge"),
        ("~/v/bin/s4edge", '"$HOME"/v/bin/pip install --upgrade s4edge'),
        ("python3 -m s4edge", "python3 -m pip install --upgrade s4edge"),
    ],
)
def test_older_s4edge_there_is_upgraded_by_the_pip_beside_it(
    made_up: Callable[[str], Path], graph: Path, command: str, pip: str
) -> None:
    # What the far shell would say, with the mark that it was told to.
    made_up(
        "import re; mark = re.search('s4edge-[0-9a-f]{16}', sys.argv[-1])[0]\n"
        "print(mark + ' folder /tmp/x', mark + ' copied', sep='\\n', flush=True)\n"
        "sys.stdin.buffer.read(1)\n"
        "print('Error: No such option: --rate', file=sys.stderr); sys.exit(2)"
    )
    message = refused([graph], command, ["Port=22"])
    assert message.endswith(f"bring it up to date with: ssh -o Port=22 {HOST} {shlex.quote(pip)}")


def test_host_without_a_name(made_up: Callable[[str], Path], graph: Path) -> None:
    line = "ssh: Could not resolve hostname board: Name or service not known"
    made_up(f"print({line!r}, file=sys.stderr); sys.exit(255)")
    message = refused([graph], "s4edge", [])
    assert message == f"cannot reach {HOST}: {line}; try: ssh {HOST}"


def test_no_ssh_here(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install the OpenSSH client" in refused([graph], "s4edge", [])


def test_no_tar_there(made_up: Callable[[str], Path], graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("sh", "mktemp", "rm", "head", "cat"):
        (folder / name).symlink_to(str(shutil.which(name)))
    made_up(
        f"sys.exit(subprocess.run([{str(folder / 'sh')!r}, '-c', sys.argv[-1]], "
        f"env={{'PATH': {str(folder)!r}}}).returncode)"
    )
    message = refused([graph], "s4edge", [])
    assert message.startswith(f"cannot copy the graphs to {HOST}: ")
    assert "tar" in message


@pytest.mark.parametrize("host", ["", "-oProxyCommand=id", "a b", "a\nb"])
def test_hosts_that_are_none(graph: Path, host: str) -> None:
    with pytest.raises(S4EdgeError, match="--host takes a name as ssh does"):
        RemoteBench(host, [graph])


@pytest.mark.parametrize("command", ["", "  ", "'"])
def test_commands_that_are_none(graph: Path, command: str) -> None:
    with pytest.raises(S4EdgeError, match="--remote-command"):
        RemoteBench(HOST, [graph], command=command)


def test_graph_that_is_gone(tmp_path: Path) -> None:
    message = refused([tmp_path / "gone.onnx"], "s4edge", [])
    assert message.startswith("cannot read")
