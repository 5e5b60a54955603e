"""Web pages that show images beside those that are like them: everything in them, nothing fetched from elsewhere."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from PIL import Image

from stml_tf.search.match import Match

_SIDE = 192

START = "<!doctype html>\n<!-- written by stml-tf -->\n"

_MOST_GROUPS = 200
_MOST_IN_A_GROUP = 30

_PAGE = Template(
    START
    + """\
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  :root { color-scheme: light dark; --line: #d0d7de; --muted: #59636e; --query: #0969da; }
  @media (prefers-color-scheme: dark) { :root { --line: #3d444d; --muted: #9198a1; --query: #4493f8; } }
  body { font: 15px/1.4 system-ui, sans-serif; max-width: 1400px; margin: 2rem auto; padding: 0 1.5rem; }
  h1 { font-size: 1.4rem; margin: 0; }
  p { color: var(--muted); margin: .2rem 0 0; }
  section { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: 1.5rem; display: flex; gap: 1.5rem; }
  section > figure { flex: none; }
  ol { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 1rem; }
  figure { margin: 0; width: 132px; }
  img, .gone { width: 132px; height: 132px; object-fit: contain; box-sizing: border-box; border: 1px solid var(--line);
    border-radius: 6px; background: #fff; color: #59636e; display: grid; place-items: center; font-size: .8rem; }
  .query { outline: 3px solid var(--query); }
  figcaption { overflow-wrap: anywhere; font-size: .8rem; color: var(--muted); margin-top: .3rem; }
  figcaption b { display: block; font-size: .95rem; color: CanvasText; font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<h1>$title</h1>
<p>$about</p>
$sections
</body>
</html>
"""
)


def search_page(queries: Sequence[Path], results: Sequence[Sequence[Match]], *, title: str, about: str) -> str:
    """Lay out what a search found.

    Args:
        queries: The images that were looked for.
        results: Per query its matches, nearest first.
        title: Stands above all.
        about: A line below the title.

    Returns:
        The page, HTML, with every picture in it, made small. A file that cannot be read any more is said to be gone.
    """
    known = all(match.similarity is not None for matches in results for match in matches)
    score = "cosine similarity" if known else "distance"
    sections = []
    for query, matches in zip(queries, results, strict=True):
        items = "\n".join(f"<li>{_figure(match.path, _score(match))}</li>" for match in matches)
        sections.append(f"<section>\n{_figure(query, 'Query', 'query')}\n<ol>\n{items}\n</ol>\n</section>")
    return _PAGE.substitute(
        title=escape(title),
        about=f"{escape(about)} Nearest first; the number is the {score}.",
        sections="\n".join(sections),
    )


def group_page(groups: Sequence[Sequence[tuple[str, str]]], *, title: str, about: str) -> str:
    """Lay out groups of images.

    Args:
        groups: Of each the images, path and caption, the most important first. Of very many the first are shown.
        title: Stands above all.
        about: A line below the title.

    Returns:
        The page, as `search_page` does.
    """
    sections = []
    for group in groups[:_MOST_GROUPS]:
        items = [f"<li>{_figure(Path(path), escape(caption))}</li>" for path, caption in group[:_MOST_IN_A_GROUP]]
        if len(group) > _MOST_IN_A_GROUP:
            items.append(f"<li>and {len(group) - _MOST_IN_A_GROUP:,} more</li>")
        sections.append("<section>\n<ol>\n" + "\n".join(items) + "\n</ol>\n</section>")
    if len(groups) > _MOST_GROUPS:
        sections.append(f"<p>and {len(groups) - _MOST_GROUPS:,} groups more</p>")
    return _PAGE.substitute(title=escape(title), about=escape(about), sections="\n".join(sections))


def _score(match: Match) -> str:
    return f"{match.distance if match.similarity is None else match.similarity:.3f}"


def _figure(path: Path, heading: str, style: str = "") -> str:
    from stml_tf.data.decoding import UnreadableImageError  # Loads TensorFlow.

    try:
        picture = f'<img class="{style}" alt="" src="data:image/jpeg;base64,{_thumbnail(path)}">'
    except UnreadableImageError:
        picture = f'<div class="gone {style}">not there any more</div>'
    # A name on disk may hold what no page can.
    full, name = (escape(str(text).encode("utf-8", "replace").decode()) for text in (path, path.name))
    return f'<figure title="{full}">{picture}<figcaption><b>{heading}</b>{name}</figcaption></figure>'


def _thumbnail(path: Path) -> str:
    from stml_tf.data.decoding import read_image

    image = Image.fromarray(read_image(path))
    image.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85)
    return base64.b64encode(content.getvalue()).decode()
