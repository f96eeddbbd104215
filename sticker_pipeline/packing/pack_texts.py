"""Texts of a pack that are not of a single sticker."""

from pydantic import Field

from sticker_pipeline.core.settings import Strict


class PackTexts(Strict):
    """Name and title of a pack, and its author.

    `name`: for addresses and files. `title`: shown to people. `copyright`: such as "© Nyx".
    """

    name: str = Field(min_length=1)
    title: str = Field(min_length=1)
    author: str = Field(min_length=1)
    description: str = ""
    copyright: str = ""

    def named(self) -> dict[str, str]:
        """Return the texts that are not empty, by their names in platforms.yaml."""
        texts = {
            "title": self.title,
            "author": self.author,
            "publisher": self.author,
            "description": self.description,
            "copyright": self.copyright,
        }
        return {name: text for name, text in texts.items() if text}
