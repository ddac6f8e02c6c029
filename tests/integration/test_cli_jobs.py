"""`expresslane run --job` and `expresslane jobs` as a user runs them, against a service with a scripted backend."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from typing import TYPE_CHECKING

from tests.support.fake_backend import FakeBackend, Script
from tests.support.fake_backend.adapter import until
from tests.support.service import Service, backend
from tests.support.shell import Shell, numbered

if TYPE_CHECKING:
    from pathlib import Path


async def test_submit_look_and_watch(tmp_path: Path) -> None:
    """The name comes alone on standard output; table, results and summary are there for as long as the job (A05)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url)) as service:
        shell = Shell(tmp_path, service.address)
        shell.write("p.jsonl", *numbered(5))
        done = await shell.run("run", "p.jsonl", "--job", "--request-id", "nightly")
        name = done.out.strip()
        assert (done.code, name.startswith("jobs/"), done.out.count("\n")) == (0, True, 1)
        assert f"expresslane jobs watch {name.removeprefix('jobs/')}" in done.err
        done = await shell.run("jobs", "watch", name, "-o", "r.jsonl")
        assert (done.code, done.out, "5 of 5 prompts succeeded" in done.err) == (0, "", True)
        whole = (tmp_path / "r.jsonl").read_text().splitlines()
        assert {json.loads(line)["custom_id"] for line in whole} == {f"p{number}" for number in range(5)}
        rest = await shell.run("jobs", "watch", name, "--after", "3", "--quiet")
        assert (rest.out.splitlines(), rest.err) == (whole[3:], "")
        refused = await shell.run("jobs", "watch", name, "-o", "r.jsonl")
        assert (refused.code, "already holds results" in refused.err) == (2, True)
        assert "--after 5" in refused.err
        assert "--append" not in refused.err
        more = await shell.run("jobs", "watch", name, "-o", "r.jsonl", "--after", "5", "--quiet")
        assert (more.code, (tmp_path / "r.jsonl").read_text().splitlines()) == (0, whole)
        table = (await shell.run("jobs")).out
        assert all(part in table for part in (name.removeprefix("jobs/"), "completed", "nightly"))
        (fields,) = (await shell.run("jobs", "--json")).lines
        assert (fields["name"], fields["state"], fields["succeeded"]) == (name, "completed", 5)
        shown = (await shell.run("jobs", "show", name)).out
        assert "5 of 5 prompts succeeded" in shown
        assert (await shell.run("jobs", "delete", name)).code == 0
        unknown = await shell.run("jobs", "show", name)
        assert (unknown.code, "UNKNOWN_JOB" in unknown.err) == (3, True)


async def test_a_job_for_which_there_is_no_room_yet(tmp_path: Path) -> None:
    """It is asked for again when the service says so, and told; an interrupt ends the waiting."""
    gate = asyncio.Event()
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1), queue_limit_prompts=2) as service:
        fake.on(lambda _: Script(before_headers=gate))
        await service.client.create_job(["running"])
        await fake.wait_for_generations(1)
        await service.client.create_job(["waits", "waits too"])
        shell = Shell(tmp_path, service.address)
        shell.write("p.jsonl", *numbered(2))
        processes = [await shell.start("run", "p.jsonl", "--job") for _ in range(2)]
        for process in processes:
            assert process.stderr is not None
            assert b"queue is full: asking again" in await process.stderr.readline()
        processes[0].send_signal(signal.SIGINT)
        await processes[0].communicate()
        assert processes[0].returncode == 130
        gate.set()
        out, _ = await processes[1].communicate()
        assert (processes[1].returncode, out.startswith(b"jobs/")) == (0, True)


async def test_interrupt_a_watch_and_cancel(tmp_path: Path) -> None:
    """Ctrl-C ends the watch, not the job, and tells how to go on; cancel ends the job, and a watch by code 1 (A05)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda request: Script(before_headers=asyncio.Event()) if b"stuck" in request.body else None)
        shell = Shell(tmp_path, service.address)
        await service.client.create_job(["quick", "stuck " * 9], job_id="j")
        process = await shell.start("jobs", "watch", "j")
        assert process.stdout is not None
        assert b"quick" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        assert b"expresslane jobs watch j --after 1" in err
        assert "running" in (await shell.run("jobs", "cancel", "j")).out
        done = await shell.run("jobs", "watch", "j", "--after", "1")
        assert (done.code, [line["outcome"] for line in done.lines]) == (1, ["cancelled"])
        assert "1 of 2 prompts succeeded (cancelled)" in done.err


async def test_a_run_that_is_left_is_kept_and_can_be_cancelled(tmp_path: Path) -> None:
    """Ctrl-C leaves a kept batch running and says how to end it; `cancel` does, again too, and not what is unknown."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        fake.on(lambda request: Script(before_headers=asyncio.Event()) if b"stuck" in request.body else None)
        shell = Shell(tmp_path, service.address)
        stuck: list[dict[str, object]] = [{"custom_id": one, "prompt": "stuck " * 9} for one in "bc"]
        shell.write("p.jsonl", *numbered(1), *stuck)
        process = await shell.start("run", "p.jsonl", "--keep", "10m")
        assert process.stdout is not None
        assert process.stderr is not None
        told = (await process.stderr.readline()).decode()
        assert b"p0" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        command = err.decode().split("expresslane cancel ")[1].split()[0]
        assert process.returncode == 130
        hints = [line.strip() for line in err.decode().splitlines() if line.startswith("  expresslane")]
        assert hints[0] == f"expresslane run p.jsonl --request-id {command} --keep 600s"
        assert len(hints) == 2
        assert not (tmp_path / "p.failed.jsonl").exists()
        assert command in told, "the name was not said at the start"
        assert service.app.kept.find("default", command) is not None
        left = await shell.run("cancel", command, "--json")
        assert (left.code, left.lines[0]["queued"]) == (0, 0)
        await service.app.scheduling.idle()
        again = await shell.run("cancel", command)
        assert (again.code, "3 prompts have ended" in again.err) == (0, True)
        assert "1 of 3 prompts succeeded (cancelled)" in again.out
        assert "1 kept batches" in (await shell.run("status")).out
        unknown = await shell.run("cancel", "never")
        assert (unknown.code, "UNKNOWN_REQUEST" in unknown.err) == (3, True)


async def test_a_killed_run_comes_back(tmp_path: Path) -> None:
    """After kill -9 the same command with --append attaches: each prompt runs once and has one result in the output."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        release = asyncio.Event()
        fake.on(lambda request: Script(before_headers=release) if b"stuck" in request.body else None)
        shell = Shell(tmp_path, service.address)
        shell.write("p.jsonl", *numbered(3), {"custom_id": "late", "prompt": "stuck " * 9})
        command = ("run", "p.jsonl", "--keep", "10m", "--request-id", "n", "-o", "r.jsonl")
        process = await shell.start(*command)
        output = tmp_path / "r.jsonl"
        await until(lambda: output.exists() and output.read_bytes().count(b"\n") == 3)
        kept = service.app.kept.find("default", "n")
        assert kept is not None
        process.kill()
        await process.communicate()
        await until(lambda: not kept.readers)
        release.set()
        done = await shell.run(*command, "--append")
        assert done.code == 0, done.err
        assert "3 of 4 prompts have succeeded in r.jsonl before: left out" in done.err
        results = [json.loads(line)["custom_id"] for line in output.read_text().splitlines()]
        assert sorted(results) == ["late", "p0", "p1", "p2"]
        assert len(fake.generations) == 4


async def test_a_name_that_stands_for_other_prompts(tmp_path: Path) -> None:
    """Kept under it is neither the whole input nor what is left of it: the run says how to end that, and to go on."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url, cap=1)) as service:
        shell = Shell(tmp_path, service.address)
        shell.write("p.jsonl", *numbered(3))
        shell.write("first.jsonl", *numbered(1))
        shell.write("two.jsonl", *numbered(2))
        assert (await shell.run("run", "first.jsonl", "-o", "r.jsonl")).code == 0
        named = ("--keep", "10m", "--request-id", "n")
        assert (await shell.run("run", "two.jsonl", *named)).code == 0
        done = await shell.run("run", "p.jsonl", "-o", "r.jsonl", "--append", *named)
        assert (done.code, "REQUEST_EXISTS" in done.err, len(fake.generations)) == (3, True, 3), done.err
        told = [
            shlex.split(line.split(" expresslane ")[1]) for line in done.err.splitlines() if " expresslane " in line
        ]
        assert told == [["cancel", "n"], ["run", "p.jsonl", "--output", "r.jsonl", "--append", "--keep", "600s"]]
        done = await shell.run(*told[0])
        assert (done.code, "2 prompts have ended" in done.err) == (0, True), done.err
        done = await shell.run(*told[1])
        assert done.code == 0, done.err
        results = [json.loads(line)["custom_id"] for line in (tmp_path / "r.jsonl").read_text().splitlines()]
        assert sorted(results) == ["p0", "p1", "p2"]


async def test_a_refused_job(tmp_path: Path) -> None:
    """A refusal names the line of the file; options about a reader are refused beside --job (A05)."""
    async with FakeBackend() as fake, Service(fake=backend(fake.url), max_prompt_bytes=100) as service:
        shell = Shell(tmp_path, service.address)
        shell.write("p.jsonl", *numbered(1), {"custom_id": "long", "prompt": "x" * 200})
        done = await shell.run("run", "p.jsonl", "--job")
        assert (done.code, done.out, "p.jsonl:2: text" in done.err) == (2, "", True)
        done = await shell.run("run", "p.jsonl", "--job", "-o", "r.jsonl")
        assert (done.code, "--job and --output exclude each other" in done.err) == (2, True)
        assert await service.client.list_jobs() == []
