import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from stml_tf.search.match import Match
from stml_tf.search.page import group_page, search_page
from tests.toy_network import save_photograph


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


JPEG = "data:image/jpeg;base64,"


def pictures_of(tags):
    return [image for image in tags.all("img") if image["src"].startswith(JPEG)]


def tiles_of(tags):
    return [figure for figure in tags.all("figure") if "tile" in figure.get("class", "")]


def page_of(tmp_path, similarity=0.91234, name="found.png"):
    query = save_photograph(tmp_path / "query.png", 1, (400, 100))
    found = save_photograph(tmp_path / name, 2)
    matches = [Match(found, 0.5, similarity), Match(tmp_path / "gone.jpg", 0.7, similarity and 0.1)]
    return search_page([query], [matches], title="A & B", about="2 images in <gallery>.")


def test_everything_is_in_the_page_and_nothing_comes_from_elsewhere(tmp_path):
    page = page_of(tmp_path)
    tags = Tags(page)
    assert not re.search(r"https?:|file:|<script [^>]*src|<link|@import|url\(", page)
    pictures = [base64.b64decode(image["src"].removeprefix(JPEG)) for image in pictures_of(tags)]
    sizes = [Image.open(io.BytesIO(picture)).size for picture in pictures]
    assert sizes == [(384, 96), (20, 14)]
    assert [image["alt"] for image in pictures_of(tags)] == [
        "Query: query.png",
        "Match 1 of query.png: found.png, cosine similarity 0.912",
    ]
    assert "Nearest first; the number is the cosine similarity." in tags.text
    assert re.findall(r"\b0\.\d{3}\b", tags.text) == ["0.912", "0.100"]
    assert "not there any more" in tags.text
    assert [figure["title"] for figure in tiles_of(tags)] == [
        str(tmp_path / name) for name in ("query.png", "found.png", "gone.jpg")
    ]


def test_distances_stand_in_where_there_is_no_cosine(tmp_path):
    text = Tags(page_of(tmp_path, similarity=None)).text
    assert "the number is the distance." in text
    assert re.findall(r"\b0\.\d{3}\b", text) == ["0.500", "0.700"]


def test_names_are_text_never_markup(tmp_path):
    page = page_of(tmp_path, name="<b>&$title\udcff.png")
    tags = Tags(page)
    assert "<b>&$title?.png" in tags.text
    assert "A & B" in tags.text
    assert "2 images in <gallery>." in tags.text
    page.encode()
    assert Path(tiles_of(tags)[1]["title"]).name == "<b>&$title?.png"


def test_groups_are_shown_and_of_very_many_the_first(tmp_path):
    image = save_photograph(tmp_path / "<a>.png", 1)
    tags = Tags(group_page([[(str(image), "keep"), (str(tmp_path / "gone.png"), "0.99")]], title="T", about="<b>"))
    assert (len(tags.all("section")), len(pictures_of(tags))) == (1, 1)
    assert all(text in tags.text for text in ("keep", "0.99", "<a>.png", "<b>", "not there any more"))
    many = Tags(group_page([[("/gone", "x")] * 40] * 300, title="T", about=""))
    assert len(many.all("section")) == 200
    assert len(tiles_of(many)) == 200 * 30
    assert "and 10 more" in many.text
    assert "and 100 groups more" in many.text
