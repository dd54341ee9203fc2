"""`faust -A app check`: every problem of the workspace folder, with its place (workspace WS-08)."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click


@click.command("check")
@click.option(
    "--config",
    envvar="WATERSMEET_CONFIG",
    default="./config",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder to check.",
)
@click.option("--no-env", is_flag=True, help="Do not look at the environment: ${NAME}, addresses.")
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def check(config: Path, no_env: bool, strict: bool, as_json: bool) -> None:
    """Check the folder of definitions; exit code 1 when something is wrong.

    Prints every problem of every file as file:line:column: key: what is wrong; how to mend it.
    """
    sys.exit(run(config, None if no_env else os.environ, strict=strict, as_json=as_json))


def run(config: Path, env: Mapping[str, str] | None, *, strict: bool, as_json: bool) -> int:
    """Print the problems of a folder and a summary; return the exit code."""
    # Imported here: other commands and `--help` start without them.
    import msgspec

    from app.folder import files
    from workspace.definitions import MAPS, digest, load, normal_form
    from workspace.environment import ALLOW, allow_fault
    from workspace.problem import in_order

    found, problems = files(config)
    definitions, more = load(found, env)
    problems = in_order(problems + more)
    wrong = allow_fault(env) if env is not None else None
    environment = [f"{ALLOW}: {wrong}"] if wrong is not None else []
    errors = sum(not problem.warning for problem in problems) + len(environment)
    warnings = sum(problem.warning for problem in problems)
    counts = {top: len(getattr(definitions, top)) for top in MAPS} if definitions else {}
    if as_json:
        report = {
            "files": len(found),
            "errors": errors,
            "warnings": warnings,
            "definitions": counts,
            "hash": digest(normal_form(definitions)) if definitions else None,
            "environment": environment,
            "problems": [msgspec.to_builtins(problem) for problem in problems],
        }
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        for line in (*environment, *map(str, problems)):
            click.echo(line)
        click.echo(_summary(len(found), errors, warnings, counts), err=True)
    return 1 if errors or (strict and warnings) else 0


def _summary(files: int, errors: int, warnings: int, counts: Mapping[str, int]) -> str:
    read = _number(files, "file")
    if errors or warnings:
        return f"{read}: {_number(errors, 'error')}, {_number(warnings, 'warning')}"
    names = ", ".join(
        _number(count, top.replace("_", " ").removesuffix("s"))
        for top, count in counts.items()
        if count
    )
    return f"{read}, nothing wrong: {names or 'no definitions'}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
