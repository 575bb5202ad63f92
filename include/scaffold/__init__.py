"""`lake new`: writes a domain, a stream or a mart as ordinary code, which its owner then edits."""
