"""What every page keeps, read from its text: it runs anywhere. `test_chromium.py` looks at the same in a browser."""

import re
from html.parser import HTMLParser

TEXT = ("ink", "muted", "accent", "good", "bad", "warn")
BEHIND = ("page", "card")
VOID = {"meta", "img", "br", "hr", "input", "link", "image"}


class Page(HTMLParser):
    """The tags of a page, and its text as a person reads it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script", "title"} & set(self._open):
            self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def read(html):
    page = Page(html)
    page.text = " ".join(page.text.split())
    return page


def assert_keeps_the_rules(html):
    page = read(html)
    addresses = [value for _, each in page.tags for name, value in each.items() if name in ("src", "href", "action")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"https?:|file:|@import|url\((?!#)", html)
    assert not page.all("link")
    assert [each["content"] for each in page.all("meta") if each.get("name") == "viewport"] == [
        "width=device-width, initial-scale=1"
    ]
    assert any("default-src 'none'" in each.get("content", "") for each in page.all("meta"))
    assert page.all("html")[0]["lang"] == "en"
    pictures = [each for each in page.all("img") if each["src"] != "data:,"]
    assert all(each["alt"].strip() for each in pictures)
    charts = [each for each in page.all("figure") if "chart-card" in each.get("class", "")]
    assert all(each["role"] == "img" and each["aria-label"].strip() for each in charts)
    identities = [each["id"] for _, each in page.tags if "id" in each]
    assert len(identities) == len(set(identities))
    links = [each["href"][1:] for each in page.all("a")]
    assert set(links) <= set(identities)
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    for name, colors in themes(style).items():
        for text in TEXT:
            for behind in BEHIND:
                assert contrast(colors[text], colors[behind]) >= 4.5, (name, text, behind)
    # Nothing is wider than a phone, but inside what says that it scrolls.
    widths = [float(width) for width in re.findall(r"[^-](?:min-)?width: (\d+)px", style)]
    assert all(width <= 390 - 32 for width in widths if width not in (700, 900)), widths


def themes(style):
    """The named colours of the stylesheet, light and dark."""
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in blocks)
    return {"light": light, "dark": {**light, **dark}}


def contrast(one, other):
    """As WCAG 2 defines it, from 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color):
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
