"""Run every demo and collect claims, pictures and what was printed in one page."""

import argparse
import ast
import subprocess
import sys
from pathlib import Path

import jinja2

HERE = Path(__file__).parent
SHARED = ("gallery.py", "second_order.py", "setting.py")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>refspec: the gallery</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: auto;
       padding: 1rem; color-scheme: light dark }
img { max-width: 100%; background: white } pre { overflow-x: auto; font-size: 13px }
</style>
<h1>refspec: the gallery</h1>
{% for demo in demos %}
<section id="{{ demo.name }}"><h2>{{ demo.claim }}</h2>
<p>{{ demo.text }}</p>
{% if demo.picture %}<img src="{{ demo.picture }}" alt="{{ demo.claim }}">{% endif %}
<details><summary>{{ demo.name }}.py printed</summary>
<pre>{{ demo.out }}</pre></details>
</section>
{% endfor %}</html>
"""


def main():
    """Write index.html and the pictures; exit 1 if an assertion failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    at = parser.parse_args()
    at.folder.mkdir(parents=True, exist_ok=True)
    demos, failed = [], []
    for file in sorted(HERE.glob("*.py")):
        if file.name in SHARED or file.name.startswith("howto"):
            continue
        print(file.name, flush=True)
        command = [sys.executable, file, "--plot", at.folder, *["--quick"] * at.quick]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            failed.append(file.name)
            print(run.stderr, file=sys.stderr)
        claim, _, text = ast.get_docstring(ast.parse(file.read_text())).partition("\n")
        picture = f"{file.stem}.png"
        demos.append(
            {
                "name": file.stem,
                "claim": claim,
                "text": text.strip(),
                "picture": picture if (at.folder / picture).exists() else None,
                "out": run.stdout,
            }
        )
    page = jinja2.Environment(autoescape=True).from_string(PAGE).render(demos=demos)
    (at.folder / "index.html").write_text(page)
    print(f"{at.folder / 'index.html'}: {len(demos)} demos, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
