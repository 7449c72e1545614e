"""LEARNED: the model, behind one protocol."""
