"""One self-contained page about a network's spectrum, for people."""

from refspec.report.contents import Contents as Contents
from refspec.report.contents import collect as collect
from refspec.report.page import encoded as encoded
from refspec.report.page import expect_libraries as expect_libraries
from refspec.report.page import render as render
from refspec.report.page import write as write

__all__ = ["Contents", "collect", "encoded", "expect_libraries", "render", "write"]
