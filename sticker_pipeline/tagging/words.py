"""Words in tags: patterns with `*`, and head nouns."""

import re

# The head noun is the last word before one of these: "mole under eye" is a mole.
# fmt: off
PREPOSITIONS = frozenset({
    "above", "against", "among", "around", "at", "behind", "below", "beside", "between", "by", "from", "in", "into",
    "near", "of", "off", "on", "onto", "out", "over", "through", "to", "towards", "under", "via", "with", "without",
})
# fmt: on


def head_endings(tag: str) -> list[str]:
    """Return more general tags by the words of `tag`, the longest first.

    "white dress shirt" gives "dress shirt" and "shirt"; "mole under left eye" gives "mole": from the first preposition
    on, words describe the place. Words are not cut: "sweater" does not end in "sweat".
    """
    words = tag.split(" ")
    place = next((i for i, word in enumerate(words) if word in PREPOSITIONS), len(words))
    head = words[:place]
    endings = [" ".join(head[start:]) for start in range(len(head))]
    return [ending for ending in endings if ending != tag]


def pattern(text: str) -> re.Pattern[str]:
    """Compile `text`, in which only `*` is special: one or more characters."""
    return re.compile("(.+)".join(re.escape(part) for part in text.split("*")))
