"""Values for one run from the launch pad, in place of character.yaml's."""

from typing import Any, ClassVar

import dagster as dg

from sticker_pipeline.core.texts import UserError

ONE_OFF = "one_off"  # their entry in an artifact's settings


class OneOffError(UserError):
    """A refused value of a launch; the message gives the remedy."""


class OneOff(dg.Config):
    """Values of a settings `section` for one run.

    None: as in character.yaml and the profile.
    """

    section: ClassVar[str]

    def given(self, context: dg.AssetExecutionContext) -> dict[str, Any]:
        """Return the values that are not None, by name.

        Raises OneOffError for a value from an environment variable, which Dagster allows for integers.
        """
        ops: Any = context.run.run_config.get("ops", {})
        stated = ops.get(context.op_def.name, {}).get("config", {})
        for name, value in stated.items():
            if any(isinstance(each, dict) for each in (value if isinstance(value, list) else [value])):
                raise OneOffError(f"The launch's configuration: '{name}': write the number; a variable is not read.")
        return self.model_dump(exclude_none=True)


def in_words(given: dict[str, Any]) -> str:
    """Return text that reports the `given` values."""
    values = ", ".join(f"{name} = {value}" for name, value in given.items())
    return f"made with {values} by its launch, not as character.yaml says"
