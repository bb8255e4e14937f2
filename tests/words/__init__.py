"""The check of words: ``python -m tests.words`` reports habits of language that keep readers out."""
