"""An HTML page as a tree that tests can ask."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "img", "source", "input", "br"}


class Page(HTMLParser):
    """The elements of a page in order: tag, attributes, text, and the elements around it."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "within": list(self.open)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "attrs": dict(attrs), "text": "", "within": list(self.open)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, *tags, within=None):
        found = [element for element in self.elements if element["tag"] in tags]
        return [element for element in found if within is None or any(outer is within for outer in element["within"])]

    def text(self, *tags, within=None):
        return [" ".join(element["text"].split()) for element in self.all(*tags, within=within)]

    def heading(self, title):
        return title in self.text("h2")

    def table(self, caption):
        return next(
            element for element in self.all("table") if self.text("caption", within=element)[0].startswith(caption)
        )

    def rows(self, table):
        return [self.text("th", "td", within=row) for row in self.all("tr", within=table)]
