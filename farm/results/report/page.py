"""The page: one HTML file that needs no network, from a template that escapes every text."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import resources
from typing import TYPE_CHECKING

import farm
from farm.errors import InputError
from farm.results.picking.ties import SAME_AP
from farm.results.report import plot, points
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.report.sections import Section

_NO_PICTURES = (
    "None to show: every box that was compared is within the tolerance, or the boxes and images are"
    " not in a store on this machine."
)


def page(title: str, sections: Sequence[Section], library: str) -> str:
    """Return the page. library: the script of the plots, as `plot.script` returns it.

    A content security policy lets no script run but the page's own two, and nothing be loaded.

    Raises:
        InputError: a package that it needs is not installed.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError:
        raise InputError(plot.MISSING) from None
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_file("page.html"))
    return template.render(
        title=plain(title),
        sections=sections,
        cells=sum(len(one.rows) for one in sections),
        written=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        version=farm.__version__,
        nonce=secrets.token_urlsafe(),
        no_pictures=_NO_PICTURES,
        page={
            "plot": plot.interactive(["model"]),
            "shapes": {"range": plot.SHAPES},
            "same_ap": SAME_AP,
            "log_from": points.LOG_FROM,
        },
        # Files of the farm and of Vega, which have no end of a script in them.
        style=Markup(_file("page.css")),
        script=Markup(_file("page.js")),
        library=Markup(library),
    )


def _file(name: str) -> str:
    return resources.files("farm.results.report").joinpath(name).read_text("utf-8")
