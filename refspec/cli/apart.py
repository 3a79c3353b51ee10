"""An export in parts, one in memory at a time, or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from refspec import coverage
from refspec.cli.terminal import say
from refspec.coverage import Coverage
from refspec.curvature import SecondMoment
from refspec.shards import Cluster, Here, joined, parts_of

Shards = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Cut a .zarr export into so many parts of its samples, one in memory at a "
        "time; best with --top.",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Parts on so many processes of this machine (dask)."
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Parts on the workers of a dask cluster, as tcp://host:8786."),
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        help="A folder for products: a run that was ended goes on where it was.",
    ),
]


@dataclass(frozen=True, slots=True)
class Apart:
    """Where the parts of an export are: here, or with the workers of a client."""

    shards: int
    client: Any
    journal: Path | None

    def moment(
        self, path: Path, layers: list[str] | None
    ) -> tuple[SecondMoment, Coverage]:
        """Return the Fisher information of all parts, and what it covers."""
        parts, shares = parts_of(path, self.shards, layers)
        first = parts[0].samples[0]
        one = replace(parts[0], samples=(first, first + 1)).snapshot()
        covered = coverage.of_snapshot(one, layers)
        held = Here(parts) if self.client is None else Cluster(parts, self.client)
        return joined(held, shares=shares, journal=self.journal), covered


@contextmanager
def apart(
    shards: int | None,
    workers: int | None,
    scheduler: str | None,
    journal: Path | None,
) -> Iterator[Apart | None]:
    """Start or find a cluster, if one is asked for; None where nothing is apart."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("give --workers N or --scheduler ADDRESS, got both")
    if workers is None and scheduler is None:
        if shards is None and journal is not None:
            raise typer.BadParameter("--journal goes with --shards N, got it alone")
        yield None if shards is None else Apart(shards, None, journal)
        return
    try:
        import distributed
    except ImportError as error:
        raise typer.BadParameter(
            "--workers and --scheduler need dask.distributed, which is not installed; "
            "pip install 'refspec[distributed]'"
        ) from error
    if scheduler is not None:
        try:
            client = distributed.Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise typer.BadParameter(
                f"--scheduler must be the address of a dask scheduler, got {scheduler} "
                f"and no answer ({type(error).__name__}); start one with dask "
                "scheduler, and workers with dask worker ADDRESS"
            ) from error
        with client:
            count = len(client.scheduler_info(n_workers=-1)["workers"])
            say(f"{count} workers of {scheduler}")
            yield Apart(shards or max(count, 1), client, journal)
        return
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield Apart(shards or workers or 1, client, journal)
