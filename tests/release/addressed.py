"""Copy the checkout to build from, and say where it is published if that is told.

    python tests/release/addressed.py out/release
    python tests/release/addressed.py out/release https://github.com/OWNER/refspec
    python tests/release/addressed.py out/release URL https://DOCUMENTATION

The README is the package's page too, where a path of the repository leads nowhere. With
the repository's address its links lead to the files of this version, pictures to the
files themselves, and the metadata and CITATION.cff say where both are. No address is
written down in the checkout: whoever publishes it knows theirs.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: A link or a picture (!) of a path: [text](path), of no address and no place here.
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def absolute(text, url, tag):
    """Return Markdown with every path as an address of a repository.

    >>> absolute("[a](theory/a.md#L1) ![b](b.png) [c](#d)", "https://r", "v1")
    '[a](https://r/blob/v1/theory/a.md#L1) ![b](https://r/raw/v1/b.png) [c](#d)'
    """

    def made(found):
        picture, words, path, place = found.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({url}/{kind}/{tag}/{path}{place or ''})"

    return _LINK.sub(made, text)


def stated(config, url, tag, site):
    """Return setup.cfg with the URLs of the project, before its licence."""
    known = {"Source": url, "Changelog": f"{url}/blob/{tag}/CHANGELOG.md"}
    known |= {"Documentation": site} if site else {}
    lines = [f"    {name} = {where}\n" for name, where in known.items()]
    text = f"url = {url}\nproject_urls =\n{''.join(lines)}license = "
    return config.replace("license = ", text, 1)


def version():
    """Return the version that the package states."""
    text = (ROOT / "refspec/_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', text)[1]


def copy(place, url="", site=""):
    """Copy what is under version control; with an address, links lead there."""
    for word, given in (("URL", url), ("DOCS_URL", site)):
        if given and not re.match(r"https://[^/\s]+/?\S*$", given):
            raise SystemExit(
                f"{word} must be an address that begins with https://, got {given!r}; "
                "give that of the repository, or leave it out"
            )
    listed = subprocess.check_output(["git", "-C", ROOT, "ls-files", "-z"], text=True)
    for name in filter(None, listed.split("\0")):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    if not url:
        sys.stdout.write("no URL=https://...: links of the README stay relative\n")
        return
    url, tag = url.rstrip("/"), f"v{version()}"
    for name, change in {
        "README.md": lambda x: absolute(x, url, tag),
        "setup.cfg": lambda x: stated(x, url, tag, site),
        "CITATION.cff": lambda x: x.replace(
            "license: ", f"repository-code: {url}\nlicense: ", 1
        ),
    }.items():
        path = place / name
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    copy(Path(sys.argv[1]), *sys.argv[2:])
