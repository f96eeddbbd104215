"""The foundation of all stages: characters, profiles, settings, the store of artifacts."""
