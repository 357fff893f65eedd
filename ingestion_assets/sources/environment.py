"""What the families need of the project's settings, so that none of them reads the environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Environment(Protocol):
    """Given to each family's `definitions`."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Where API keys are looked up."""
        ...

    @property
    def automate(self) -> bool:
        """Whether sensors begin switched on."""
        ...

    @property
    def sources_folder(self) -> Path:
        """What a relative path in sources.yaml begins at."""
        ...
