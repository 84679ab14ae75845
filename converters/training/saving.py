"""Writing trained models as nested files."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tflnest.model import Model


class Exported:
    """What all models have in common that know how to become a nested file."""

    @abstractmethod
    def to_nested(self) -> Model:
        """The trained model as a nested int8 model."""

    def save_nested(self, path: str | Path, force: bool = False) -> Model:
        """Write the trained model as a nested `.tflite`.

        Args:
            path: Where to.
            force: Overwrite what is there.

        Returns:
            What was written.

        Raises:
            UsageError: The file exists, and `force` was not given.
        """
        model = self.to_nested()
        model.save(path, force)
        return model
