"""Files that instruments and partners drop into a folder or a bucket: each taken once, whole, by its content."""
