"""The foundation that every stage stands on: characters, profiles, settings, the store of artifacts."""
