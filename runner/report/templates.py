"""Where templates are found, and what is wrong with one, as a sentence with its file and line."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

from runner.errors import ReportError

MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>&~$:])")


@dataclass(frozen=True)
class Templates:
    """Folders of templates; of one name the first folder's counts."""

    folders: tuple[Path, ...]

    def find(self, name: str) -> Path:
        """Return the file of a template.

        Raises:
            ReportError: when no folder has it.
        """
        for folder in self.folders:
            if (folder / name).is_file():
                return folder / name
        raise ReportError(name, f"is not in {' or '.join(map(str, self.folders))}")

    def render(self, name: str, context: Mapping[str, Any]) -> str:
        """Return a Jinja template filled in; in HTML every text is escaped, in others none.

        Raises:
            ReportError: naming the file and the line, when it is no template or asks for what there is not.
        """
        from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(self.folders),
            autoescape=name.endswith(".html.j2"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {"markdown": markdown, "literal": literal}
        file = self.find(name)
        try:
            return environment.get_template(name).render(context)
        except TemplateSyntaxError as error:
            raise ReportError(f"{error.filename or file}:{error.lineno}", str(error.message)) from error
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise ReportError(self._place(error, file), str(error) or type(error).__name__) from error

    def specification(self, name: str) -> dict[str, Any]:
        """Return the Vega-Lite specification of a chart, without its data.

        Raises:
            ReportError: naming the file and the line, when it is no JSON object.
        """
        file = self.find(f"charts/{name}.vl.json")
        try:
            specification = json.loads(file.read_bytes())
        except json.JSONDecodeError as error:
            raise ReportError(f"{file}:{error.lineno}", f"is no JSON: {error.msg}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise ReportError(file, f"cannot be read: {error}") from error
        if not isinstance(specification, dict):
            raise ReportError(f"{file}:1", "is no Vega-Lite specification, which is a JSON object")
        return specification

    def _place(self, error: Exception, file: Path) -> str:
        """Return the file and the line of a template that an error comes from."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if any(Path(frame.filename).is_relative_to(folder) for folder in self.folders):
                return f"{frame.filename}:{frame.lineno}"
        return str(file)


def markdown(text: str) -> str:
    r"""Return a text that means itself in Markdown, on one line.

    >>> print(markdown("*a*\n<b> $x$"))
    \*a\* &lt;b&gt; \$x\$
    """
    escaped = MARKDOWN.sub(r"\\\1", " ".join(text.split()))
    return escaped.replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def literal(value: Any) -> str:
    """Return a text, or plain lists of texts, as Python source."""
    return repr(value) if isinstance(value, str) else pformat(value, width=110, sort_dicts=False)
