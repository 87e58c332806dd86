"""A hook of mkdocs: where a page links to a file of the source tree, as it does on a forge, the site names the file instead."""

import re

SOURCE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")


def on_page_markdown(markdown: str, **_) -> str:
    return SOURCE.sub(lambda link: f"{link[1]} (`{link[2]}`)", markdown)
