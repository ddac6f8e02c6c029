"""The command line as a user runs it: a process of its own against a scripted service."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.fake_backend import FakeBackend, Script
from tests.support.service import Service, backend
from tests.support.shell import Shell, numbered
from tests.support.stub_server import Refusal, StubService, serve_stub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def shell(service: StubService, tmp_path: Path) -> AsyncIterator[Shell]:
    """A shell that talks to it."""
    async with serve_stub(service) as address:
        yield Shell(tmp_path, address)


async def test_results_go_to_the_output_and_the_summary_to_stderr(shell: Shell) -> None:
    """One line for each result with all its fields, a table with a SIMULATED stamp, exit code 0 (A13, A14, T03)."""
    shell.write("p.jsonl", *numbered(3))
    done = await shell.run("run", "p.jsonl")
    assert done.code == 0
    assert {line["custom_id"]: line["text"] for line in done.lines} == {f"p{n}": f"echo text {n}" for n in range(3)}
    wanted = "custom_id outcome text reasoning tool_calls finish_reason usage error queue_ms ttft_ms total_ms attempts"
    assert list(done.lines[0]) == [*wanted.split(), "turned_away", "backend", "model", "simulated"]
    assert (done.lines[0]["queue_ms"], done.lines[0]["ttft_ms"], done.lines[0]["total_ms"]) == (10.0, 30.0, 50.0)
    assert "3 of 3 prompts succeeded   SIMULATED" in done.err
    assert "speed-up, at most" in done.err
    assert list(shell.folder.iterdir()) == [shell.folder / "p.jsonl"]


async def test_standard_input_is_a_file_too(shell: Shell) -> None:
    """`-` reads it, --quiet leaves standard error empty."""
    done = await shell.run("run", "-", "--quiet", "--in-order", stdin=b'{"custom_id": "a", "prompt": "x"}\n')
    assert (done.code, done.err, [line["text"] for line in done.lines]) == (0, "", ["echo x"])


async def test_failed_lines_are_valid_input_byte_for_byte(shell: Shell, service: StubService) -> None:
    """Exit code 1, the original lines in a file, and the command that runs them again adds to the results (A30)."""
    lines = shell.write("p.jsonl", *numbered(4))
    service.failing = {"p1", "p3"}
    done = await shell.run("run", "p.jsonl", "-o", "r.jsonl")
    failed = shell.folder / "r.failed.jsonl"
    assert done.code == 1
    assert failed.read_bytes() == lines[1] + lines[3]
    assert "2 x BACKEND_UNREACHABLE (HTTP 502) at stub, for example p3: no route to backend" in done.err
    assert "expresslane run r.failed.jsonl --output r.jsonl --append" in done.err
    service.failing = {"p3"}
    assert (await shell.run("run", "r.failed.jsonl", "-o", "r.jsonl", "--append")).code == 1
    assert failed.read_bytes() == lines[3]
    outcomes = [json.loads(line) for line in (shell.folder / "r.jsonl").read_text().splitlines()]
    assert {one["custom_id"] for one in outcomes if one["outcome"] == "succeeded"} == {"p0", "p1", "p2"}


async def test_paid_results_are_not_overwritten(shell: Shell, service: StubService) -> None:
    """An output with results in it is refused unless the command says what to do with it."""
    shell.write("p.jsonl", *numbered(1))
    (shell.folder / "r.jsonl").write_text("precious\n")
    done = await shell.run("run", "p.jsonl", "-o", "r.jsonl")
    assert (done.code, service.requests) == (2, [])
    assert "--append" in done.err
    assert (shell.folder / "r.jsonl").read_text() == "precious\n"
    assert (await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--overwrite")).code == 0
    assert "precious" not in (shell.folder / "r.jsonl").read_text()


async def test_earlier_failures_do_not_keep_a_run_out(shell: Shell, service: StubService) -> None:
    """Those of a run go beside what an earlier one has left, and the command that is told runs them again (A30)."""
    lines = shell.write("p.jsonl", *numbered(3))
    first, second = shell.folder / "r.failed.jsonl", shell.folder / "r.2.failed.jsonl"
    service.failing = {"p1"}
    await shell.run("run", "p.jsonl", "-o", "r.jsonl")
    (shell.folder / "r.jsonl").unlink()
    service.failing = {"p0", "p2"}
    done = await shell.run("run", "p.jsonl", "-o", "r.jsonl")
    assert (done.code, first.read_bytes(), second.read_bytes()) == (1, lines[1], lines[0] + lines[2])
    assert "2 prompts without success in r.2.failed.jsonl (r.failed.jsonl has those of an earlier run)" in done.err
    again = done.err.splitlines()[-1].split()
    assert again[:3] == ["expresslane", "run", "r.2.failed.jsonl"]
    service.failing = {"p2"}
    assert (await shell.run(*again[1:])).code == 1
    assert (first.read_bytes(), second.read_bytes()) == (lines[1], lines[2])
    service.failing = set()
    assert (await shell.run(*again[1:])).code == 0
    assert first.read_bytes() == lines[1]
    assert not second.exists(), "nothing of it is left to run"


async def test_named_failures_are_not_overwritten(shell: Shell, service: StubService) -> None:
    """A file of failures that is named is refused as an output is, before anything is sent (A30)."""
    lines = shell.write("p.jsonl", *numbered(2))
    failed = shell.folder / "f"
    failed.write_bytes(lines[1])
    service.failing = {"p0"}
    done = await shell.run("run", "p.jsonl", "--failures", "f")
    assert (done.code, service.requests, failed.read_bytes()) == (2, [], lines[1])
    assert "f holds prompts of an earlier run without success" in done.err
    assert "--overwrite" in done.err
    assert "--append" not in done.err
    assert (await shell.run("run", "p.jsonl", "--failures", "f", "--overwrite")).code == 1
    assert failed.read_bytes() == lines[0]
    assert (await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--failures", "f", "--append")).code == 1
    assert failed.read_bytes() == lines[0]


async def test_what_has_succeeded_is_no_failure_any_more(shell: Shell, service: StubService) -> None:
    """A second run of the whole input clears its prompts out of the file of failures; those of others stay (A30)."""
    lines = shell.write("p.jsonl", *numbered(2))
    failed = shell.folder / "r.failed.jsonl"
    service.failing = {"p1"}
    await shell.run("run", "p.jsonl", "-o", "r.jsonl")
    service.failing = set()
    for left in (b'{"custom_id": "other", "prompt": "x"}\n', b""):
        failed.write_bytes(lines[1] + left)
        assert (await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--append")).code == 0
        assert (failed.read_bytes() if failed.exists() else b"") == left
    for left in (b'{"custom_id": "other", "prompt": "x"}\n', b""):
        failed.write_bytes(lines[1] + left)
        done = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--overwrite")
        assert (done.code, failed.read_bytes() if failed.exists() else b"") == (0, left)
        assert ("r.failed.jsonl: nothing left to run, removed" in done.err.splitlines()) == (not left)
    failed.write_bytes(lines[1])
    (shell.folder / "nowhere").symlink_to("/dev/null")
    for mode in ("--append", "--overwrite"):
        words = ["-o", "nowhere", "--failures", "r.failed.jsonl", mode]
        assert (await shell.run("run", "p.jsonl", *words)).code == 0
        assert failed.read_bytes() == lines[1], "the results of it are kept nowhere"


async def test_the_only_copy_of_a_prompt_stays(shell: Shell, service: StubService) -> None:
    """Failures that are run to standard output stay in their file: nobody knows whether the results were kept (A30)."""
    lines = shell.write("p.failed.jsonl", *numbered(2))
    assert (await shell.run("run", "p.failed.jsonl")).code == 0
    assert (shell.folder / "p.failed.jsonl").read_bytes() == b"".join(lines)
    service.failing = {"p0"}
    for number, words in enumerate(([], ["--failures", "p.failed.jsonl"], ["--overwrite"], ["-o", "/dev/null"]), 2):
        named = ["--failures", "p.failed.jsonl"] if "-o" in words else []
        done = await shell.run("run", "p.failed.jsonl", *words, *named)
        assert done.code == 1, done.err
        assert f"without success in p.{number}.failed.jsonl (p.failed.jsonl stays as it was)" in done.err
        assert (shell.folder / f"p.{number}.failed.jsonl").read_bytes() == lines[0]
        assert (shell.folder / "p.failed.jsonl").read_bytes() == b"".join(lines)
    nothing = shell.folder / "null"
    nothing.symlink_to("/dev/null")
    assert (await shell.run("run", "p.failed.jsonl", "--failures", "null", "--overwrite")).code == 1
    assert nothing.is_symlink(), "replaced by a file"


async def test_failures_that_are_added_can_be_run(shell: Shell, service: StubService) -> None:
    """Each prompt has one line in a failures file, however often it failed; those of other prompts stay (A30)."""
    first = shell.write("p.jsonl", *numbered(4))
    service.failing = {"p1", "p3"}
    await shell.run("run", "p.jsonl", "-o", "r.jsonl")
    failed = shell.folder / "r.failed.jsonl"
    assert failed.read_bytes() == first[1] + first[3]
    second = shell.write("q.jsonl", *({**one, "max_tokens": 9} for one in numbered(2)))
    with failed.open("ab") as file:
        file.write(b'{"no": "prompt"}')
    service.failing = {"p1"}
    assert (await shell.run("run", "q.jsonl", "-o", "r.jsonl", "--append")).code == 1
    assert failed.read_bytes() == first[3] + b'{"no": "prompt"}\n' + second[1]
    failed.write_bytes(first[3] + second[1])
    service.failing = {"p1", "p3"}
    assert (await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--append")).code == 1
    assert failed.read_bytes() == first[1] + first[3]
    service.failing = set()
    done = await shell.run("run", "r.failed.jsonl", "-o", "r.jsonl", "--append")
    assert done.code == 0, done.err


async def test_what_has_succeeded_is_left_out(shell: Shell, service: StubService) -> None:
    """--append asks for what has no success in the output, and says how many it leaves out; half a line is cut off."""
    lines = shell.write("p.jsonl", *numbered(4))
    service.failing = {"p1"}
    await shell.run("run", "p.jsonl", "-o", "r.jsonl")
    output = shell.folder / "r.jsonl"
    whole = output.read_bytes().splitlines(keepends=True)
    kept = [line for line in whole if b'"p0"' not in line]
    output.write_bytes(b"".join(kept) + b'{"custom_id": "p0", "outcome": "succ')
    service.requests.clear()
    service.failing = set()
    done = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--append")
    assert done.code == 0, done.err
    assert "2 of 4 prompts have succeeded in r.jsonl before: left out" in done.err
    assert "half a line at its end" in done.err
    assert [one.custom_id for one in service.requests[0].prompts] == ["p0", "p1"]  # type: ignore[attr-defined]
    succeeded = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert sorted(one["custom_id"] for one in succeeded if one["outcome"] == "succeeded") == ["p0", "p1", "p2", "p3"]
    done = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--append")
    assert (done.code, len(service.requests)) == (0, 1)
    service.failing = {"p1"}
    output.write_bytes(kept[0])
    assert (await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--append")).code == 1
    assert (shell.folder / "r.failed.jsonl").read_bytes().endswith(lines[1]), "the wrong line is left"


async def test_bad_input_is_told_before_anything_is_sent(shell: Shell, service: StubService) -> None:
    """Exit code 2, every bad line with file:line, field, reason and example (P39)."""
    shell.write("p.jsonl", {"custom_id": "a", "prompt": "x"}, {"prompt": "x"}, {"custom_id": "a", "prompt": "y"})
    done = await shell.run("run", "p.jsonl")
    assert (done.code, done.out, service.requests) == (2, "", [])
    assert "nothing was sent: 2 lines" in done.err
    assert "p.jsonl:2: custom_id: is missing" in done.err
    assert "p.jsonl:3: custom_id: 'a' is taken by line 1" in done.err
    assert 'example: {"custom_id": "a"' in done.err


async def test_a_file_without_prompts(shell: Shell, service: StubService) -> None:
    """There is no line to complain of: it is told that there is none, and how one looks."""
    shell.write("p.jsonl")
    done = await shell.run("run", "p.jsonl")
    assert (done.code, service.requests) == (2, [])
    assert "nothing was sent: p.jsonl: has no prompts: put one JSON object on each line" in done.err
    assert "of the input cannot be" not in done.err
    assert "example: " in done.err


async def test_options_reach_the_service(shell: Shell, service: StubService) -> None:
    """Defaults fill what lines leave open; the run's options are the batch's."""
    shell.write("p.jsonl", {"custom_id": "a", "prompt": "x", "top_k": 5})
    options = "--model m --max-tokens 7 --class batch --fail-fast --max-failure-rate 0.5 --timeout 30s --request-id r"
    assert (await shell.run("run", "p.jsonl", *options.split())).code == 0
    config, prompt = service.requests[0].config, service.prompts[0]  # type: ignore[attr-defined]
    assert (prompt.model, prompt.sampling.max_tokens, prompt.sampling.top_k) == ("m", 7, 5)
    assert (config.failure_policy, config.max_failure_rate, config.request_id) == (2, 0.5, "r")
    assert service.time_remaining_s == pytest.approx(30, abs=5)


async def test_a_refusal_names_the_line_of_the_file(shell: Shell, service: StubService) -> None:
    """Exit code 2; a path of the contract becomes file:line, and the input stays what there is to run (P39)."""
    shell.write("p.jsonl", *numbered(2))
    fields = {"prompts[1].sampling.top_p": "2.0 is out of range", "prompts[0].model": "too long"}
    service.refusal = Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "prompts[1].sampling.top_p: 2.0 is out", "INVALID_FIELD", fields, 3
    )
    done = await shell.run("run", "p.jsonl")
    assert done.code == 2
    assert "refused (INVALID_FIELD): p.jsonl:2: sampling.top_p: 2.0 is out" in done.err
    assert "p.jsonl:1: model: too long" in done.err
    assert "try again in 3 s" in done.err
    assert not (shell.folder / "p.failed.jsonl").exists()


async def test_a_drained_service_is_not_worth_another_try(shell: Shell, service: StubService) -> None:
    """After `drain` nobody is told to try again soon: it cannot be undone."""
    shell.write("p.jsonl", *numbered(2))
    service.refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "draining", "DRAINING", retry_after_s=1)
    done = await shell.run("run", "p.jsonl")
    assert done.code == 3
    assert "try again" not in done.err
    assert "start it anew" in done.err


async def test_a_reader_that_has_had_enough(shell: Shell) -> None:
    """`run | head` ends quietly, with exit code 1 and no file of failures: its results are what was left out."""
    shell.write("p.jsonl", *numbered(2_000))
    process = await shell.start("run", "p.jsonl", "--quiet")
    assert process.stdout is not None
    assert await process.stdout.readline()
    process.stdout._transport.close()  # type: ignore[attr-defined]
    _, err = await process.communicate()
    assert (process.returncode, err) == (1, b"")
    assert not (shell.folder / "p.failed.jsonl").exists()


async def test_a_batch_too_large_for_the_queue_goes_as_a_stream(shell: Shell, service: StubService) -> None:
    """What one batch cannot hold is sent as credits allow, without a word to the user."""
    service.batch_limit = 5
    shell.write("p.jsonl", *numbered(50))
    done = await shell.run("run", "p.jsonl")
    assert (done.code, len(done.lines)) == (0, 50)
    assert service.unfinished_max <= service.credits


async def test_a_batch_for_which_the_queue_has_no_room_goes_as_a_stream(shell: Shell, service: StubService) -> None:
    """It waits its turn there, as a larger file does: the run is not refused because others came first."""
    service.full = 1
    shell.write("p.jsonl", *numbered(20))
    done = await shell.run("run", "p.jsonl")
    assert (done.code, len(done.lines)) == (0, 20)
    assert "the service's queue is full: sent as a stream, as it has room" in done.err
    assert service.unfinished_max <= service.credits


async def test_a_kept_batch_asks_again_for_room(shell: Shell, service: StubService) -> None:
    """A stream cannot be kept: the same batch is asked for when the service says so, within the run's time limit."""
    service.full = 1
    shell.write("p.jsonl", *numbered(3))
    done = await shell.run("run", "p.jsonl", "--keep", "1m", "--timeout", "30s")
    assert (done.code, len(done.lines)) == (0, 3)
    assert "asking again as it says, first in 1 s, for" in done.err
    assert done.err.count("kept under --request-id") == 1
    assert [len(one.prompts) for one in service.requests] == [3, 3]  # type: ignore[attr-defined]
    service.full, service.full_for_s = 1, 60
    done = await shell.run("run", "p.jsonl", "--keep", "1m", "--timeout", "30s")
    assert (done.code, done.out) == (3, "")
    assert "refused (QUEUE_FULL): no room" in done.err


async def test_who_is_interrupted_while_waiting_for_room_loses_nothing(shell: Shell, service: StubService) -> None:
    """The service has nothing of it, whatever --keep says: the prompts of standard input are left to run again."""
    service.full, service.full_for_s = 1, 300
    lines = shell.write("p.jsonl", *numbered(3))
    process = await shell.start("run", "-", "--keep", "5m", "-o", "r.jsonl")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(b"".join(lines))
    process.stdin.close()
    while b"queue is full" not in await process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"the service goes on" not in err
    assert (shell.folder / "r.failed.jsonl").read_bytes() == b"".join(lines)


async def test_a_lost_connection_leaves_the_rest_to_run_again(shell: Shell, service: StubService) -> None:
    """With --no-resume: exit code 3, what came is in the output, what did not is in the failures file."""
    lines = shell.write("p.jsonl", *numbered(3))
    service.break_after = 1
    done = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--no-resume")
    assert done.code == 3
    assert (shell.folder / "r.jsonl").read_text().count("\n") == 1
    assert (shell.folder / "r.failed.jsonl").read_bytes() == lines[0] + lines[1]


async def test_a_stream_is_resumed_too(shell: Shell, service: StubService) -> None:
    """A file that goes as a stream survives lost connections as well; --keep is told that it cannot be kept."""
    service.batch_limit = 5
    service.break_after = 20
    shell.write("p.jsonl", *numbered(50))
    done = await shell.run("run", "p.jsonl", "--keep", "1m")
    assert done.code == 0
    assert sorted(line["custom_id"] for line in done.lines) == sorted(f"p{number}" for number in range(50))
    assert done.err.count("connection lost, resuming") == 2
    assert "which the service does not keep" in done.err
    assert "50 of 50 prompts succeeded" in done.err


async def test_a_lost_connection_is_resumed(shell: Shell, service: StubService) -> None:
    """The rest is asked for again, with a word about it: every prompt once in the output, exit code 0."""
    shell.write("p.jsonl", *numbered(5))
    service.break_after = 2
    done = await shell.run("run", "p.jsonl")
    assert done.code == 0
    assert sorted(line["custom_id"] for line in done.lines) == [f"p{number}" for number in range(5)]
    assert "connection lost, resuming 3 of 5 prompts\n" in done.err
    assert "5 of 5 prompts succeeded" in done.err
    assert [len(one.prompts) for one in service.requests] == [5, 3, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_run_can_be_resumed(shell: Shell, service: StubService, number: signal.Signals) -> None:
    """Ctrl-C cancels at the service, keeps what came and leaves the rest as valid input; exit code 130."""
    lines = shell.write("p.jsonl", *numbered(3))
    service.hold_after = 2
    process = await shell.start("run", "p.jsonl")
    assert process.stdout is not None
    await service.held.wait()
    first = [await process.stdout.readline() for _ in range(2)]
    process.send_signal(number)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert [json.loads(line)["custom_id"] for line in first] == ["p2", "p1"]
    assert b"interrupted: 2 succeeded, 1 not finished" in err
    assert (shell.folder / "p.failed.jsonl").read_bytes() == lines[0]
    await asyncio.wait_for(service.cancelled.wait(), 10)


async def test_nobody_there(tmp_path: Path) -> None:
    """Exit code 3 and how to start a service."""
    shell = Shell(tmp_path, "127.0.0.1:1")
    shell.write("p.jsonl", *numbered(1))
    for command in (["run", "p.jsonl"], ["backends"], ["status"]):
        done = await shell.run(*command)
        assert done.code == 3
        assert "no service answers at 127.0.0.1:1" in done.err
        assert "expresslane serve" in done.err


async def test_backends_and_their_switch(shell: Shell, service: StubService) -> None:
    """The state is visible, and changes at once (T07)."""
    table = (await shell.run("backends")).out
    assert "● on" in table
    assert "cap 10 is above the 4 slots" in table
    off = await shell.run("backends", "disable", "local")
    assert (off.code, "○ off" in off.out, "1 of 10" in off.out) == (0, True, True)
    assert service.backends["backends/local"].effective_cap == 1
    await shell.run("backends", "set-cap", "local", "4")
    await shell.run("backends", "enable", "backends/local")
    assert service.backends["backends/local"].effective_cap == 4
    listed = (await shell.run("backends", "--json")).lines
    assert [(one["name"], one["cap"]) for one in listed] == [("backends/hosted", 10), ("backends/local", 4)]
    assert (await shell.run("backends", "enable", "none")).code == 3


async def test_status_at_a_glance(shell: Shell) -> None:
    """Queue by class, work in flight, rate and outcomes (A28), for people and for programs."""
    shown = (await shell.run("status")).out
    for part in ("hrrn", "standard 7", "in flight", "2.5/s", "9 succeeded", "1 failed", "local"):
        assert part in shown
    (fields,) = (await shell.run("status", "--json")).lines
    assert (fields["queued"], fields["queued_by_class"], len(fields["backends"])) == (7, {"standard": 7}, 2)


async def test_status_that_goes_on(shell: Shell, service: StubService) -> None:
    """`status --watch` looks again every second, shows what has changed, and ends with Ctrl-C (A28)."""
    process = await shell.start("status", "--watch", "--json")
    assert process.stdout is not None
    before = json.loads(await process.stdout.readline())
    service.succeeded += 12
    while (after := json.loads(await process.stdout.readline()))["succeeded"] == before["succeeded"]:
        pass
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (before["succeeded"], after["succeeded"], process.returncode, err) == (9, 21, 130, b"")


async def test_status_that_goes_on_for_people(shell: Shell, service: StubService) -> None:
    """Into a pipe it writes a frame for each look, as it comes, with the rate between two looks (A28)."""
    process = await shell.start("status", "--watch")
    for looks in (1, 2):
        service.looked.clear()
        await service.looked.wait()
        service.uptime_s, service.succeeded = 90 + looks, 9 + 40 * looks
    assert process.stdout is not None
    heads = 0
    while b"40.0/s" not in (line := await process.stdout.readline()):
        assert line
        heads += line.startswith(b"expresslane ")
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    assert heads >= 2, "a pipe got no frame of its own for each look"


async def test_a_failure_rate_ends_a_run(tmp_path: Path) -> None:
    """--max-failure-rate: above it the rest is cancelled at the service, and the run ends with exit code 1 (A31)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=2)) as running:
        fake.on(lambda _: Script(status=400))
        shell = Shell(tmp_path, running.address)
        shell.write("p.jsonl", *numbered(20))
        done = await shell.run("run", "p.jsonl", "--max-failure-rate", "0.1")
        assert done.code == 1
        outcomes = Counter(line["outcome"] for line in done.lines)
        assert 3 <= outcomes["failed"] <= 4
        assert len(fake.generations) <= outcomes["failed"] + 2
        left = (tmp_path / "p.failed.jsonl").read_bytes().splitlines()
        assert outcomes["failed"] + outcomes["cancelled"] == len(left) == 20


async def test_a_models_text_cannot_reach_the_terminal(shell: Shell) -> None:
    """Control characters in an answer stay escaped in the output, and markup is only text."""
    shell.write("p.jsonl", {"custom_id": "[red]\x1b", "prompt": "\x1b]0;owned\x07\x9b[bold]"})
    done = await shell.run("run", "p.jsonl")
    assert not set(done.out + done.err) & {"\x1b", "\x07", "\x9b"}
    assert done.lines[0]["text"] == "echo \x1b]0;owned\x07\x9b[bold]"


async def test_configuration_and_versions_without_a_service(tmp_path: Path) -> None:
    """`config` tells values and mistakes, `version` what is installed; neither needs a service."""
    shell = Shell(tmp_path, "127.0.0.1:1")
    done = await shell.run("version", "--json")
    assert {"expresslane", "core", "python", "grpcio", "protobuf"} <= done.lines[0].keys()
    done = await shell.run("config", "--json")
    assert any(row["name"] == "EXPRESSLANE_LISTEN" and row["origin"] == "default" for row in done.lines[0])
    assert "EXPRESSLANE_POLICY" in (await shell.run("config", "--all")).out
    shell.environ["EXPRESSLANE_KEYS_FILE"] = str(tmp_path / "missing")
    done = await shell.run("config")
    assert (done.code, "EXPRESSLANE_KEYS_FILE" in done.err, done.out) == (2, True, "")
    del shell.environ["EXPRESSLANE_KEYS_FILE"]
    assert "default:" in (await shell.run("config", "--reference")).out
