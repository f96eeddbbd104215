"""Tags and captions: the tagger, curation, and the grammar of captions."""
