"""The desk: a web page for each character.

Pure functions read artifacts (`rows.py`, `overview.py`, `images.py`) and change two kinds of file: captions beside
images (`captions.py`) and character.yaml (`settings_file.py`). `app.py` serves them.
"""
