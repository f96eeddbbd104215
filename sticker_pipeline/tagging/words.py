"""Tags as words: patterns with `*`, and the head of a tag.

What particular tags mean is data: categories.csv and implications.csv.
"""

import re

# "mole under eye" is a mole: in a tag with one of these, the head noun is the last word before it.
# fmt: off
PREPOSITIONS = frozenset({
    "above", "against", "among", "around", "at", "behind", "below", "beside", "between", "by", "from", "in", "into",
    "near", "of", "off", "on", "onto", "out", "over", "through", "to", "towards", "under", "via", "with", "without",
})
# fmt: on


def head_endings(tag: str) -> list[str]:
    """What `tag` is a kind of, going by its words alone, from the longest: "white dress shirt" gives "dress shirt" and
    "shirt"; "mole under left eye" gives "mole" (the words from its first preposition on say where, not what).

    Words are never cut: "sweater" does not end in "sweat", nor "elbow gloves" in "bow".
    """
    words = tag.split(" ")
    place = next((i for i, word in enumerate(words) if word in PREPOSITIONS), len(words))
    head = words[:place]
    endings = [" ".join(head[start:]) for start in range(len(head))]
    return [ending for ending in endings if ending != tag]


def pattern(text: str) -> re.Pattern[str]:
    """`text` as a regular expression in which `*` stands for one or more characters, and all others for themselves."""
    return re.compile("(.+)".join(re.escape(part) for part in text.split("*")))
