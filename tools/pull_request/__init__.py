"""What a change does to the pipeline, against the branch that it goes to: `make pr`.

Both trees are parsed, and run on the same demo sources in throwaway lakes; a report says what differs. `parse` and
`run` are processes of the tree that they look at, so that each side runs its own code; the others belong to the change.
"""
