"""The pages of a gallery: what a search found, and groups of images that are alike."""

from collections.abc import Sequence
from pathlib import Path

from stml_tf.pages.pictures import picture_of_file, side_for
from stml_tf.pages.template import START, render
from stml_tf.search.match import Match

__all__ = ["START", "group_page", "search_page"]

_MOST_GROUPS = 200
_MOST_IN_A_GROUP = 30


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
    side = side_for(len(queries) + sum(map(len, results)))
    laid_out = [
        (
            picture_of_file(query, alt=f"Query: {query.name}", side=side, heading="Query"),
            [
                picture_of_file(
                    match.path,
                    alt=f"Match {rank} of {query.name}: {match.path.name}, {score} {_score(match)}",
                    side=side,
                    heading=_score(match),
                )
                for rank, match in enumerate(matches, start=1)
            ],
        )
        for query, matches in zip(queries, results, strict=True)
    ]
    about = f"{about} Nearest first; the number is the {score}."
    return render("search.html", title=title, about=about, results=laid_out)


def group_page(groups: Sequence[Sequence[tuple[str, str]]], *, title: str, about: str) -> str:
    """Lay out groups of images.

    Args:
        groups: Of each the images, path and caption, the most important first. Of very many the first are shown.
        title: Stands above all.
        about: A line below the title.

    Returns:
        The page, as `search_page` does.
    """
    shown = [group[:_MOST_IN_A_GROUP] for group in groups[:_MOST_GROUPS]]
    side = side_for(sum(map(len, shown)))
    laid_out = [
        {
            "pictures": [
                picture_of_file(Path(path), alt=f"{Path(path).name}, {caption}", side=side, heading=caption)
                for path, caption in part
            ],
            "more": len(group) - len(part),
        }
        for group, part in zip(groups, shown, strict=False)
    ]
    return render("groups.html", title=title, about=about, groups=laid_out, more=len(groups) - len(shown))


def _score(match: Match) -> str:
    return f"{match.distance if match.similarity is None else match.similarity:.3f}"
