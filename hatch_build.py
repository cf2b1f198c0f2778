"""Build step: the README as a package index shows it, where no link may be relative.

`project.urls.Source` in pyproject.toml is the one place that says where the repository is. While it
names none, a relative link becomes its text: a package index could not resolve it.
"""

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: Fenced code, which stays as it is, or a link to a file of the repository.
_CODE_OR_LINK: Final = re.compile(
    r"^```.*?^```|\[(?P<text>[^\]]*)\]\((?![a-z]+:|#)(?P<path>[^)]*)\)", re.MULTILINE | re.DOTALL
)


class ReadmeHook(MetadataHookInterface):
    """Set `readme` from README.md."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Write the README with absolute links into the project's metadata."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        base = f"{source}/blob/v{metadata['version']}" if source else None
        text = resolve_links(readme, base)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def resolve_links(markdown: str, base: str | None) -> str:
    """Make relative links absolute, or plain text where there is no base address."""

    def resolve(found: re.Match[str]) -> str:
        text, path = found["text"], found["path"]
        if text is None:
            return found[0]
        return f"[{text}]({base}/{path})" if base else text

    return _CODE_OR_LINK.sub(resolve, markdown)
