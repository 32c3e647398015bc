"""Send each verdict to a system of your own: a sink is an object with a method `publish`.

python examples/custom_sink.py
"""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TextIO

from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from runner import cli
from runner.cli import track
from runner.config import compose, wiring
from runner.domain.executions import Publication

ROOT = Path(mkdtemp(prefix="shapwatch-"))


# 1. The sink. `publish` is called after each execution, also a failed one. If it raises PublishError, it is retried.
@dataclass(frozen=True)
class JsonLines:
    """A sink that appends one line of JSON to a file."""

    file: TextIO

    def publish(self, publication: Publication) -> None:
        """Write the verdict."""
        verdict = {"monitor": publication.monitor, "status": publication.status, "level": publication.level}
        self.file.write(json.dumps({**verdict, "sentence": publication.sentence}) + "\n")


@dataclass(frozen=True)
class Publish:
    """Settings that replace those of the group `publish`."""

    sinks: tuple[JsonLines, ...]
    base_url: str | None = None


# 2. Compose the settings, replace the sinks, and run a stage.
def run(sink: JsonLines, *overrides: str) -> None:
    """Run one stage of the quickstart."""
    cli.register_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        config = hydra_compose("config", ["experiment=quickstart", f"paths.root={ROOT}", *overrides])
    settings = compose.validate(config).model_copy(update={"publish": Publish((sink,))})
    wiring.build(settings, compose.snapshot(config), track)()


# 3. One hour of traffic, a reference, and one execution of the monitor, which writes to the sink.
with (ROOT / "verdicts.jsonl").open("w") as file:
    run(JsonLines(file), "stage=replay", "stage.start=2026-01-05T09:00:00Z", "++stage.rescale={mean compactness: 100}")
    run(JsonLines(file), "stage=baseline")
    run(JsonLines(file), "stage=monitor", "stage.window=2026-01-05T09")
print((ROOT / "verdicts.jsonl").read_text(), end="")
