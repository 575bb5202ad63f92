"""Serving a folder's files: only what lies in it, never through a link that leads out."""

from pathlib import Path

# What the folders hold. Anything else is a download, so that a browser never guesses.
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".otf": "font/otf",
}


def find_file(root: Path, relative: str) -> Path | None:
    """The file that `relative` names below `root`; a folder means its index.html.

    None if there is no such file, if the path or a link in it leads out of `root`, or if a part of it is hidden.
    """
    parts = [part for part in relative.split("/") if part]
    if any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return None
    inside = root.resolve()
    try:
        path = inside.joinpath(*parts).resolve()
        if path.is_dir():
            path = (path / "index.html").resolve()
        return path if path.is_relative_to(inside) and path.is_file() else None
    except OSError:  # a name too long for the file system, a folder that may not be read
        return None


def content_type(path: Path) -> str:
    """The type to serve a file as."""
    return CONTENT_TYPES.get(path.suffix.lower(), "application/octet-stream")
